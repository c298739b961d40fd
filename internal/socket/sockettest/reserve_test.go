package sockettest

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestAReservedAddressRefusesAndCanBeBoundByWhoKnowsIt(t *testing.T) {
	at := Reserve(t)
	if c, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%v, %v; want a refusal", c, err)
	}
	for range 300 { // nobody else is given it
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l.Addr().String() == at {
			t.Fatal("another got it")
		}
	}
	for range 2 {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
