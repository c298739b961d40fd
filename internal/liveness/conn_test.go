package liveness

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAConnectionOnWhichNothingIsHeardBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := NewConn(near)
		defer c.Close()
		go func() {
			for range 3 {
				time.Sleep(SilenceLimit - time.Millisecond)
				_, _ = far.Write([]byte{1})
			}
		}()
		b := make([]byte, 1)
		began := time.Now()
		for range 3 {
			if _, err := c.Read(b); err != nil {
				t.Fatalf("broke after %s although it was alive: %v", time.Since(began), err)
			}
		}
		began = time.Now()
		if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read ended with %v", err)
		}
		if got := time.Since(began); got != SilenceLimit {
			t.Errorf("broke after %s, want %s", got, SilenceLimit)
		}
	})
}

func TestADeadlineThatTheUserSetHoldsTooAndDoesNotLiftTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := talking(t, near, far)
		defer c.Close()
		for set, want := range map[time.Duration]time.Duration{
			time.Second: time.Second,
			time.Minute: SilenceLimit,
		} {
			began := time.Now()
			if err := c.SetDeadline(began.Add(set)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != want {
				t.Errorf("with a deadline in %s the read ended after %s with %v", set, time.Since(began), err)
			}
		}
		// Set and lifted while a read waits: as gRPC does after the handshake.
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var lift sync.WaitGroup
		lift.Go(func() {
			time.Sleep(time.Second)
			_ = c.SetReadDeadline(time.Time{})
		})
		defer lift.Wait()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < SilenceLimit {
			t.Errorf("the read ended after %s with %v", time.Since(began), err)
		}
	})
}

// talking returns a watched connection on which something was heard.
func talking(t *testing.T, near, far net.Conn) net.Conn {
	t.Helper()
	c := NewConn(near)
	var said sync.WaitGroup
	said.Go(func() { _, _ = far.Write([]byte{1}) })
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	said.Wait()
	return c
}

func TestAConnectionThatWasNeverHeardIsItsUsersToBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := NewConn(near)
		defer c.Close()
		began := time.Now()
		_ = c.SetReadDeadline(began.Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("the read ended after %s with %v", time.Since(began), err)
		}
	})
}

// stopped is a connection whose second read comes back late, as it does in a process
// that was stopped meanwhile.
type stopped struct {
	net.Conn
	late  time.Duration
	reads int
}

func (s *stopped) Read(b []byte) (int, error) {
	s.reads++
	n, err := s.Conn.Read(b)
	if s.reads == 2 {
		time.Sleep(s.late)
	}
	return n, err
}

func TestAProcessThatStoodStillDoesNotBlameTheOtherEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for late, forgiven := range map[time.Duration]bool{4 * time.Second: true, 10 * time.Millisecond: false} {
			near, far := net.Pipe()
			c := talking(t, &stopped{Conn: near, late: late}, far)
			var ping sync.WaitGroup
			ping.Go(func() {
				time.Sleep(SilenceLimit + late + PingEvery)
				_, _ = far.Write([]byte{1})
			})
			_, err := c.Read(make([]byte, 1))
			if (err == nil) != forgiven {
				t.Errorf("%s late: read ended with %v", late, err)
			}
			far.Close()
			c.Close()
			ping.Wait()
		}
	})
}
