package identity_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestOnlyAnEndThatWasSaidIsAnEnd(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	for _, c := range []struct {
		what string
		end  func(over, below net.Conn) error
		want error
	}{
		{"a close", func(over, _ net.Conn) error { return over.Close() }, io.EOF},
		{"a kill", func(_, below net.Conn) error { return below.Close() }, identity.ErrCut},
	} {
		a, b := bufferedPipe(t)
		server := identity.Server(b, m.Workload("east", "shop", "orders").ServerTLS(identitytest.AnyWorkload()))
		client := identity.Client(a, m.Workload("east", "shop", "web").ClientTLS("", identitytest.AnyWorkload()))
		ended := make(chan error, 1)
		go func() {
			_, err := server.Write([]byte("x"))
			ended <- errors.Join(err, c.end(server, b))
		}()
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, c.want) {
			t.Errorf("%s is read as %v", c.what, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestWhoSaysNothingMayEndItsConnection(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	a, b := bufferedPipe(t)
	a.Close()
	server := identity.Server(b, m.Workload("east", "shop", "orders").ServerTLS(identitytest.AnyWorkload()))
	if err := server.Handshake(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
