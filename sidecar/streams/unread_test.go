package streams

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// serveWith serves f on a connection of its own, which shares u with others, and returns
// its client.
func serveWith(t *testing.T, u *Unread, f func(*Stream)) *Conn {
	t.Helper()
	near, far := net.Pipe()
	server := Server(far, Config{Unread: u})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(f)
	}()
	client := Client(near, Config{})
	t.Cleanup(func() {
		_ = client.Close()
		<-served
	})
	return client
}

func TestWhatAllConnectionsHoldUnreadIsBoundedAndWhoHoldsMostPays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, streams = 1 << 20, 100
		u := NewUnread(most)
		large := serveWith(t, u, func(s *Stream) { // it reads the head, and no more
			if _, _, err := s.ReadHead(nil); err != nil {
				return
			}
			ended := make(chan struct{})
			s.OnEnd(func(error) { close(ended) })
			<-ended
		})
		read := make(chan struct{})
		small := serveWith(t, u, func(s *Stream) {
			if _, _, err := s.ReadHead(nil); err != nil {
				return
			}
			<-read
			_ = s.WriteResponse(200, nil, false)
			_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
			_ = s.CloseWrite()
		})
		kept := open(t, small, post, false)
		body := make([]byte, 10_000)
		if _, err := kept.WriteLast(body); err != nil {
			t.Fatal(err)
		}
		var held []*Stream
		for range streams {
			s := open(t, large, post, false)
			held = append(held, s)
			if _, err := s.Write(make([]byte, http2.DefaultStreamWindow)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * tick)
		if n := u.Bytes(); n > most || n < most/2 {
			t.Errorf("%d bytes are held, with a bound of %d", n, most)
		}
		reset := 0
		for _, s := range held {
			if bad, ok := errors.AsType[*ResetError](s.Err()); ok && bad.Remote && bad.Code == http2.EnhanceYourCalm {
				reset++
			}
			s.Release()
		}
		if min := streams - most/http2.DefaultStreamWindow; reset < min || reset > min+10 || int64(reset) != u.Shed() {
			t.Errorf("%d streams were reset and %d counted, want %d or few more", reset, u.Shed(), min)
		}
		close(read)
		if _, _, err := kept.ReadHead(nil); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(struct{ io.Reader }{kept}); err != nil || len(b) != len(body) {
			t.Errorf("who held little got %d bytes back, %v", len(b), err)
		}
		kept.Release()
		time.Sleep(2 * tick)
		if n := u.Bytes(); n != 0 {
			t.Errorf("%d bytes are held when there is no stream", n)
		}
	})
}

func TestWhatWasReadIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUnread(1 << 20)
		c := serveWith(t, u, echo)
		s := open(t, c, post, false)
		for range 100 { // the stream goes on
			if _, err := s.Write(make([]byte, 30_000)); err != nil {
				t.Fatal(err)
			}
			if !s.Answered() {
				if _, _, err := s.ReadHead(nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.ReadFull(s, make([]byte, 30_000)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := u.Bytes(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
		s.Release()
	})
}

func TestManyExchangesHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUnread(1 << 20)
		c := serveWith(t, u, echo)
		for i := range 2000 {
			if i%3 == 0 {
				s := open(t, c, post, false)
				_, _ = s.Write(make([]byte, 5000))
				s.Release() // reset
				continue
			}
			if err := exchange(c, make([]byte, i*10)); err != nil {
				t.Fatal(err)
			}
			if n := u.Bytes(); n < 0 || n > 1<<20 {
				t.Fatalf("%d bytes are held after %d exchanges", n, i)
			}
		}
		synctest.Wait()
		if u.Bytes() != 0 || u.Shed() != 0 {
			t.Errorf("%d bytes are held, %d streams were reset", u.Bytes(), u.Shed())
		}
	})
}
