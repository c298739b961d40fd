package tunnel

import (
	"io"
	"os"
	"testing"
	"time"
)

func TestAReadDeadlineHoldsUntilItIsMoved(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.echoes(t)
		s := east.path(t, west)
		defer s.Close()
		begun := time.Now()
		for _, at := range []time.Duration{time.Second, 1500 * time.Millisecond} { // the latter counts
			if err := s.SetReadDeadline(begun.Add(at)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // and still when it is past
			_, err := s.Read(make([]byte, 1))
			wantError(t, err, os.ErrDeadlineExceeded)
			if d := time.Since(begun); d != 1500*time.Millisecond {
				t.Errorf("read ended after %v, want 1.5s", d)
			}
		}
		time.AfterFunc(time.Second, func() {
			if err := s.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
				t.Error(err)
			}
		})
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		_, err := s.Read(make([]byte, 1)) // waits, until a deadline in the past is set
		wantError(t, err, os.ErrDeadlineExceeded)
		if d := time.Since(begun); d != 2500*time.Millisecond {
			t.Errorf("read ended after %v, want 2.5s", d)
		}
		if err := s.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(s, "again"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
			t.Errorf("after the deadline was moved: %v", err)
		}
	})
}
