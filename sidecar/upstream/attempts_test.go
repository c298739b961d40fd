package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// unreachable is a service of n endpoints to which every connection fails with err.
func unreachable(n int, err error) *Service {
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, err }
	s := newService(newShared(Config{Dial: dial}), orders, "test")
	s.update(&mesh.Route{Destination: orders, Local: endpoints("ep", n, n)})
	return s
}

func TestWhatReachedNobodyGetsItsAttemptsHoweverLateItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Attempts
		// The machine was paused for a minute during the first attempt.
		a.Begin(unreachable(1, fmt.Errorf("connect: %w", context.DeadlineExceeded)), DefaultRetries(), time.Now().Add(-time.Minute))
		if _, err := a.Next(t.Context(), nil); !errors.Is(err, context.DeadlineExceeded) || a.Unreached() != minHosts {
			t.Errorf("%v after %d attempts, want the timeout after %d", err, a.Unreached(), minHosts)
		}
	})
}

func TestARequestThatReachesNobodyAsksInRoundsUntilItsHostsAreUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Attempts
		refused := errors.New("refused")
		a.Begin(unreachable(2, refused), DefaultRetries(), time.Now())
		start := time.Now()
		if _, err := a.Next(t.Context(), nil); !errors.Is(err, refused) || a.Asked() != maxHosts {
			t.Errorf("%v after %d hosts, want the refusal after %d", err, a.Asked(), maxHosts)
		}
		if took := time.Since(start); took < 7*minPause/2 || took > 7*3*minPause/2 {
			t.Errorf("the rounds took %v, want pauses of 25, 50 and 100 ms, jittered by half", took)
		}
	})
}

func TestAPolicyWithoutAWindowAsksNobodyTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		once := DefaultRetries()
		once.Window = 0
		var a Attempts
		a.Begin(unreachable(1, errors.New("refused")), once, time.Now())
		if _, err := a.Next(t.Context(), nil); err == nil || a.Asked() != 1 {
			t.Errorf("%v after %d hosts, want a refusal after one", err, a.Asked())
		}
	})
}

func TestNobodyToAskIsSaidAfterAllRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Attempts
		a.Begin(unreachable(0, nil), DefaultRetries(), time.Now())
		if _, err := a.Next(t.Context(), nil); !errors.Is(err, ErrNobody) {
			t.Errorf("got %v, want ErrNobody", err)
		}
		waits := 0
		a.Begin(unreachable(0, nil), DefaultRetries(), time.Now())
		if _, err := a.Next(t.Context(), func() bool { waits++; return false }); err == nil || waits != 1 {
			t.Errorf("asked %d times whether the caller waits, want to stop at the first no", waits)
		}
	})
}

func TestWhatNobodySawUsesUpNoSend(t *testing.T) {
	policy := DefaultRetries()
	var a Attempts
	a.Begin(unreachable(1, nil), policy, time.Now())
	a.lease.Conn = &Conn{}
	for n := 1; n < policy.Hosts; n++ {
		a.sent++
		a.asked++
		if !a.MayRetry(Unseen, false) || !a.Retry(Unseen) {
			t.Fatalf("given up after %d hosts that had not seen it", n)
		}
	}
	a.sent++
	a.asked++
	if a.MayRetry(Unseen, false) {
		t.Errorf("asked more than %d hosts", policy.Hosts)
	}
}

func TestARequestLeavesItsClusterAfterTwoRefusalsSinceItWasLost(t *testing.T) {
	for name, c := range map[string]struct {
		losses []Loss
		sent   bool
		stays  bool
	}{
		"one refusal":                      {[]Loss{Lost, Unseen}, true, true},
		"two refusals":                     {[]Loss{Lost, Unseen, Unseen}, true, false},
		"a refusal and a reset":            {[]Loss{Lost, Unseen, Reset}, true, false},
		"refusals elsewhere, and one":      {[]Loss{Unseen, Unseen, Lost, Unseen}, true, true},
		"connections that carried nothing": {[]Loss{Lost, Unseen, Unseen}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			var a Attempts
			s := unreachable(1, nil)
			a.Begin(s, DefaultRetries(), time.Now())
			h := newHost(s, hostKey{addr: "ep"})
			a.lease = Lease{Conn: &Conn{host: h}, host: h}
			a.lease.Conn.sent.Store(c.sent)
			for _, l := range c.losses {
				if !a.Retry(l) {
					t.Fatal("no retry")
				}
			}
			if stays := a.stay != (stay{}); stays != c.stays {
				t.Errorf("stays in its cluster: %v, want %v", stays, c.stays)
			}
		})
	}
}
