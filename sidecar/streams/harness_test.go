package streams

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// pair returns a client and lets f serve its streams; both end with the test.
func pair(t testing.TB, near, far net.Conn, f func(*Stream)) (client, server *Conn) {
	t.Helper()
	server = Server(far, Config{ExtendedConnect: true})
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Serve(f); err != nil {
			t.Logf("the server's connection ended: %v", err)
		}
	})
	client = Client(near, Config{})
	t.Cleanup(func() {
		_ = client.Close()
		served.Wait()
	})
	return client, server
}

// sockets returns both ends of a TCP connection over loopback.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// get is a request without a body.
var get = &http2.RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("shop.mesh"), Path: []byte("/")}

// post is one with.
var post = &http2.RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("shop.mesh"), Path: []byte("/")}

// echo answers with what it gets, as it comes.
func echo(s *Stream) {
	if _, _, err := s.ReadHead(nil); err != nil {
		return
	}
	if err := s.WriteResponse(200, nil, false); err != nil {
		return
	}
	if _, err := io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s}); err != nil {
		return
	}
	_ = s.CloseWrite()
}

// open returns a stream on which a request was written.
func open(t testing.TB, c *Conn, h *http2.RequestHead, end bool) *Stream {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteRequest(h, nil, end); err != nil {
		t.Fatal(err)
	}
	return s
}
