package streams

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// exchange posts body to an echo and reports what is wrong with the answer.
func exchange(c *Conn, body []byte) error {
	s, err := c.Open()
	if err != nil {
		return err
	}
	defer s.Release()
	s.Cork()
	if err := s.WriteRequest(post, nil, false); err != nil {
		return err
	}
	if _, err := s.WriteLast(body); err != nil {
		return err
	}
	s.Uncork()
	if _, _, err := s.ReadHead(nil); err != nil {
		return err
	}
	got, err := io.ReadAll(s)
	if err == nil && !bytes.Equal(got, body) {
		err = fmt.Errorf("%d bytes came back of %d, or others", len(got), len(body))
	}
	return err
}

func TestAThousandStreamsAHundredAtATime(t *testing.T) {
	near, far := sockets(t)
	client, _ := pair(t, near, far, echo)
	var callers sync.WaitGroup
	for i := range 100 {
		callers.Go(func() {
			for j := range 10 {
				if err := exchange(client, bytes.Repeat([]byte{byte(i)}, i*j*20)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if n := client.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestAStreamThatIsNotReadStallsNobody(t *testing.T) {
	near, far := sockets(t)
	filled := make(chan struct{})
	client, _ := pair(t, near, far, func(s *Stream) {
		text, _, err := s.ReadHead(nil)
		if err != nil {
			return
		}
		if strings.HasPrefix(string(text), "POST") {
			_ = s.WriteResponse(200, nil, false)
			_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
			_ = s.CloseWrite()
			return
		}
		_ = s.WriteResponse(200, nil, false)
		b := make([]byte, http2.DefaultStreamWindow)
		_, _ = s.Write(b) // as much as may be on its way
		filled <- struct{}{}
		_, _ = s.Write(b) // and more
	})
	const slow = 50
	held := make([]*Stream, slow)
	for i := range held {
		held[i] = open(t, client, get, true)
	}
	for range held {
		<-filled
	}
	for range 60 { // the echo has to fit into both windows: nothing of it is read before all is written
		if err := exchange(client, make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range held {
		s.Release()
	}
}

// counted counts the writes.
type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestManySmallExchangesShareWrites(t *testing.T) {
	near, far := sockets(t)
	out, back := &counted{Conn: near}, &counted{Conn: far}
	client, _ := pair(t, out, back, echo)
	const callers, each = 50, 100
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				if err := exchange(client, []byte("hello")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d exchanges took %d writes there and %d back", callers*each, out.writes.Load(), back.writes.Load())
	if n := out.writes.Load(); n > callers*each/2 {
		t.Errorf("%d exchanges at %d a time took %d writes of requests", callers*each, callers, n)
	}
	if n := back.writes.Load(); n > callers*each {
		t.Errorf("%d exchanges at %d a time took %d writes of answers", callers*each, callers, n)
	}
}

func TestCancellingAtAnyMomentLosesNothingOfOthers(t *testing.T) {
	near, far := sockets(t)
	client, server := pair(t, near, far, func(s *Stream) {
		if rand.IntN(8) == 0 {
			s.Reset(http2.RefusedStream)
		}
		echo(s)
	})
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 50 {
				var reset *ResetError
				if err := exchange(client, make([]byte, rand.IntN(64<<10))); errors.As(err, &reset) {
					if !reset.Unprocessed {
						t.Error(err)
					}
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		callers.Go(func() {
			for range 50 {
				s, err := client.Open()
				if err != nil {
					t.Error(err)
					return
				}
				var parts sync.WaitGroup
				parts.Go(func() {
					_ = s.WriteRequest(post, nil, false)
					_, _ = s.Write(make([]byte, 4<<10))
				})
				parts.Go(func() {
					if rand.IntN(2) == 0 {
						_, _, _ = s.ReadHead(nil)
					}
					_ = s.Abort()
				})
				parts.Wait()
				s.Release()
			}
		})
	}
	callers.Wait()
	if err := exchange(client, []byte("hello")); err != nil && !errors.As(err, new(*ResetError)) {
		t.Errorf("the connection is not what it was: %v, %v, %v", err, client.Err(), server.Err())
	}
	if n := client.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestAConnectionThatBreaksEndsAllItsStreams(t *testing.T) {
	near, far := sockets(t)
	client, _ := pair(t, near, far, echo)
	var told atomic.Int32
	var readers sync.WaitGroup
	const streams = 20
	for range streams {
		s := open(t, client, post, false)
		if _, _, err := s.ReadHead(nil); err != nil {
			t.Fatal(err)
		}
		s.OnEnd(func(error) { told.Add(1) })
		readers.Go(func() {
			defer s.Release()
			var gone *ConnError
			if _, err := s.Read(make([]byte, 1)); !errors.As(err, &gone) {
				t.Errorf("reading ended with %v", err)
			}
		})
	}
	_ = far.Close()
	readers.Wait()
	_ = client.Close()
	if n := told.Load(); n != streams {
		t.Errorf("%d of %d were told", n, streams)
	}
	if _, err := client.Open(); !errors.As(err, new(*ConnError)) {
		t.Errorf("a stream could be opened, or %v", err)
	}
}
