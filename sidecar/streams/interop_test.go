package streams

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	ours "github.com/isthmus-mesh/isthmus/sidecar/http2"
)

func TestAGoClientIsServed(t *testing.T) {
	near, far := sockets(t)
	server := Server(far, Config{})
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(echo) })
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }, Protocols: unencrypted()}
	client := &http.Client{Transport: transport}
	ask := func(body []byte) {
		resp, err := client.Post("http://shop.mesh/", "text/plain", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back of %d, %v", len(got), len(body), err)
		}
	}
	ask(nil) // dials, once
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() { ask(bytes.Repeat([]byte{byte(i)}, i*10_000)) })
	}
	callers.Wait()
	transport.CloseIdleConnections()
	_ = near.Close()
	served.Wait()
}

func TestAGoServerServesUs(t *testing.T) {
	near, far := sockets(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	l := &oneListener{conns: make(chan net.Conn, 1)}
	l.conns <- far
	server := &http.Server{Handler: handler, Protocols: unencrypted(), ReadHeaderTimeout: time.Minute}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	client := Client(near, Config{})
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() {
			if err := exchange(client, bytes.Repeat([]byte{byte(i)}, i*4_000)); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	_ = client.Close()
	_ = server.Close()
	served.Wait()
}

// unencrypted is HTTP/2 by prior knowledge.
func unencrypted() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// oneListener accepts what is in conns.
type oneListener struct {
	conns chan net.Conn
	once  sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.conns) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// peer answers our preface and gives f the frames' reader and writer.
func peer(t *testing.T, f func(*http2.Framer)) *Conn {
	t.Helper()
	near, far := sockets(t)
	var ran sync.WaitGroup
	ran.Go(func() {
		defer far.Close()
		if _, err := io.ReadFull(far, make([]byte, len(http2.ClientPreface))); err != nil {
			t.Error(err)
			return
		}
		framer := http2.NewFramer(far, far)
		_ = framer.WriteSettings()
		f(framer)
	})
	client := Client(near, Config{})
	t.Cleanup(func() {
		_ = client.Close()
		ran.Wait()
	})
	return client
}

// heads reads frames until n heads have come.
func heads(framer *http2.Framer, n int) {
	for n > 0 {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if _, ok := frame.(*http2.HeadersFrame); ok {
			n--
		}
	}
}

func TestWhatTheOtherEndHasNotBegunIsUnprocessed(t *testing.T) {
	asked := make(chan struct{})
	client := peer(t, func(framer *http2.Framer) {
		heads(framer, 3)
		_ = framer.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		_ = framer.WriteRSTStream(3, http2.ErrCodeInternal)
		_ = framer.WriteGoAway(3, http2.ErrCodeNo, nil)
		<-asked
	})
	defer close(asked)
	for id, want := range []ResetError{
		{Code: ours.RefusedStream, Remote: true, Unprocessed: true},
		{Code: ours.InternalError, Remote: true},
		{Code: ours.RefusedStream, Remote: true, Unprocessed: true},
	} {
		s := open(t, client, get, true)
		defer s.Release()
		defer func() {
			var got *ResetError
			if _, _, err := s.ReadHead(nil); !errors.As(err, &got) || *got != want {
				t.Errorf("stream %d ended with %#v", 2*id+1, err)
			}
		}()
	}
}
