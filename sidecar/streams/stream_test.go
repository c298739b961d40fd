package streams

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestARequestAndItsAnswerCrossTheConnection(t *testing.T) {
	near, far := sockets(t)
	client, _ := pair(t, near, far, func(s *Stream) {
		text, end, err := s.ReadHead(nil)
		if err != nil || end || !strings.HasPrefix(string(text), "POST / HTTP/1.1\r\nhost: shop.mesh\r\n") {
			t.Errorf("the request is %q, end %v, %v", text, end, err)
		}
		body, err := io.ReadAll(s)
		if err != nil || string(body) != "hello" || string(s.Trailers(nil)) != "x-sum: 5\r\n" {
			t.Errorf("its body is %q, %v", body, err)
		}
		s.Cork()
		_ = s.WriteResponse(103, []Field{{[]byte("link"), []byte("</a>")}}, false)
		_ = s.WriteResponse(200, []Field{{[]byte("x-a"), []byte("b")}}, false)
		_, _ = s.Write([]byte("world"))
		_ = s.WriteTrailers([]Field{{[]byte("grpc-status"), []byte("0")}})
		s.Uncork()
	})
	s := open(t, client, post, false)
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteTrailers([]Field{{[]byte("x-sum"), []byte("5")}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HTTP/1.1 103 \r\nlink: </a>\r\n\r\n", "HTTP/1.1 200 \r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n"} {
		if text, end, err := s.ReadHead(nil); err != nil || end || string(text) != want {
			t.Fatalf("the head is %q, end %v, %v", text, end, err)
		}
	}
	body, err := io.ReadAll(s)
	if err != nil || string(body) != "world" || string(s.Trailers(nil)) != "grpc-status: 0\r\n" {
		t.Errorf("the answer is %q, %v", body, err)
	}
	s.Release()
	if n := client.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestALargeBodyGoesThroughTheWindowsBothWays(t *testing.T) {
	near, far := sockets(t)
	client, _ := pair(t, near, far, echo)
	s := open(t, client, post, false)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	go func() { _, _ = s.WriteLast(sent) }()
	if _, _, err := s.ReadHead(nil); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	s.Release()
}
