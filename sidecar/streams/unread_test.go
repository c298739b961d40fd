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

// unread serves streams of which nothing is read before read is closed; then all of it is, and
// how that ended is in ends.
func unread(t *testing.T, u *Unread) (c *Conn, read chan struct{}, ends chan error) {
	read, ends = make(chan struct{}), make(chan error, 10)
	return serveWith(t, u, func(s *Stream) {
		<-read
		if _, _, err := s.ReadHead(nil); err != nil {
			ends <- err
			return
		}
		_, err := io.Copy(io.Discard, struct{ io.Reader }{s})
		ends <- err
	}), read, ends
}

func TestWhatABrokenStreamHoldsIsLetGoOfWhenItIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUnread(100 << 10)
		c, read, ends := unread(t, u)
		for range 2 {
			s := open(t, c, post, false)
			if _, err := s.WriteLast(make([]byte, 60<<10)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			s.Reset(http2.Cancel) // all of its body has come
			synctest.Wait()
			s.Release()
			time.Sleep(2 * relieveEvery)
		}
		time.Sleep(2 * tick)
		if n := u.Bytes(); n > u.Most() {
			t.Errorf("%d bytes are held by streams that are broken, with a bound of %d", n, u.Most())
		}
		if n := u.Shed(); n != 1 {
			t.Errorf("%d streams were picked, want one", n)
		}
		close(read)
		synctest.Wait()
		whole, lost := 0, 0
		for range 2 {
			if err := <-ends; err == nil {
				whole++
			} else if _, ok := errors.AsType[*ResetError](err); ok {
				lost++
			}
		}
		if whole != 1 || lost != 1 {
			t.Errorf("%d were read whole, and of %d the end is known to be missing", whole, lost)
		}
		if n := u.Bytes(); n != 0 {
			t.Errorf("%d bytes are held at the end", n)
		}
	})
}

func TestWhatTheStreamsOfAConnectionHoldThatIsGoneIsLetGoOfBeforeOthersPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUnread(100 << 10)
		gone, readGone, ends := unread(t, u)
		live, readLive, _ := unread(t, u)
		s := open(t, gone, post, false)
		if _, err := s.WriteLast(make([]byte, 60<<10)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = gone.Close()
		synctest.Wait()
		kept := open(t, live, post, false)
		if _, err := kept.Write(make([]byte, 50<<10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tick)
		if err := kept.Err(); err != nil {
			t.Errorf("a stream was reset for what one of a connection that is gone held: %v", err)
		}
		if n := u.Bytes(); n > u.Most() {
			t.Errorf("%d bytes are held, with a bound of %d", n, u.Most())
		}
		close(readGone)
		close(readLive)
		if err := <-ends; err == nil {
			t.Error("who read what was let go of took it for whole")
		}
		kept.Release()
		synctest.Wait()
		if n := u.Bytes(); n != 0 {
			t.Errorf("%d bytes are held at the end", n)
		}
		if conns := u.byHeld(); len(conns) != 1 {
			t.Errorf("%d connections are known, of which one is not gone", len(conns))
		}
	})
}
