package streams

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// narrowServer speaks HTTP/2 by hand: it greets and takes all that comes, and gives back
// what has come of the connection's window, in one piece, when gives says so.
func narrowServer(t *testing.T, far net.Conn, gives <-chan uint32) {
	go func() {
		b := make([]byte, 32<<10)
		for {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	}()
	go func() {
		settings := []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff} // streams have all the window they want
		if _, err := far.Write(settings); err != nil {
			return
		}
		for n := range gives {
			if _, err := far.Write([]byte{0, 0, 4, 8, 0, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}); err != nil {
				return
			}
		}
	}()
}

func TestAConnectionWhoseWindowIsFullIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		gives := make(chan uint32)
		narrowServer(t, far, gives)
		client := Client(near, Config{})
		if err := client.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		const window = 1<<16 - 1
		one, other := open(t, client, post, false), open(t, client, post, false)
		var writers sync.WaitGroup
		for _, s := range []*Stream{one, other} {
			writers.Go(func() {
				for {
					if _, err := s.Write(make([]byte, http2.MaxFrame)); err != nil {
						return
					}
				}
			})
		}
		synctest.Wait()
		if client.Limited() {
			t.Error("it is limited at once")
		}
		for range 20 { // a round trip of 10 ms
			time.Sleep(10 * time.Millisecond)
			gives <- window
			synctest.Wait()
		}
		if !client.Limited() {
			t.Error("its window is full all the time, and it is not limited")
		}
		_ = client.Close()
		close(gives)
		writers.Wait()
		one.Release()
		other.Release()
	})
}

func TestAConnectionWhoseWindowIsOpenAgainIsNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		gives := make(chan uint32)
		narrowServer(t, far, gives)
		client := Client(near, Config{})
		if err := client.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := open(t, client, post, false)
		go func() { _, _ = s.Write(make([]byte, 100<<10)) }()
		time.Sleep(time.Second)
		if !client.Limited() {
			t.Error("a stream has been waiting for a second, and it is not limited")
		}
		gives <- 1 << 20
		time.Sleep(time.Second)
		if client.Limited() {
			t.Error("nobody waits any more, and it is limited")
		}
		_ = client.Close()
		close(gives)
		s.Release()
	})
}
