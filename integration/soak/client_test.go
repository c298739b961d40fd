package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// answering is a server that answers each connection's requests with texts, in turn,
// and closes the connection after the last.
func answering(t *testing.T, texts ...string) *client {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			br := bufio.NewReader(c)
			for _, text := range texts {
				req, err := http.ReadRequest(br)
				if err != nil {
					break
				}
				if req.ContentLength < 1<<16 {
					_, _ = io.Copy(io.Discard, req.Body)
				}
				_, _ = io.WriteString(c, text)
			}
			c.Close()
		}
	}()
	c := &client{addr: l.Addr().String()}
	t.Cleanup(func() {
		l.Close()
		for _, conn := range c.idle {
			conn.Close()
		}
		<-done
	})
	return c
}

func (c *client) ask(t *testing.T, method, body string) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://x/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return c.do(req)
}

func TestAConnectionIsUsedAgain(t *testing.T) {
	c := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")
	for _, want := range []string{"a", "b"} {
		if a, err := c.ask(t, http.MethodGet, ""); err != nil || string(a.body) != want {
			t.Errorf("%q, %v; want %q", a.body, err, want)
		}
	}
}

func TestARequestIsNotRepeated(t *testing.T) {
	c := answering(t, "")
	if a, err := c.ask(t, http.MethodGet, ""); err == nil || a.begun {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestACutAnswerIsToldFromAWholeOne(t *testing.T) {
	for _, text := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		a, err := answering(t, text).ask(t, http.MethodGet, "")
		if err == nil || !a.begun || string(a.body) != "half" {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

func TestAnAnswerBeforeTheRequestIsReadIsTaken(t *testing.T) {
	c := answering(t, "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 2\r\n\r\nno", "unused")
	a, err := c.ask(t, http.MethodPost, strings.Repeat("x", 16<<20))
	if err != nil || a.status != http.StatusRequestEntityTooLarge || string(a.body) != "no" {
		t.Errorf("%d %q, %v", a.status, a.body, err)
	}
}
