package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnHTTPCheckPassesOn2xxAnd3xxOnly(t *testing.T) {
	for status, healthy := range map[int]bool{200: true, 204: true, 302: true, 399: true, 400: false, 404: false, 500: false, 503: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/healthz" || r.Method != http.MethodGet {
				t.Errorf("asked for %s %s", r.Method, r.URL)
			}
			w.WriteHeader(status)
		}))
		err := Check{Path: "/healthz"}.Probe(t.Context(), s.Listener.Addr().String())
		if (err == nil) != healthy {
			t.Errorf("%d: %v", status, err)
		}
		s.Close()
	}
}

// answer listens and serves one reply to every connection.
func answer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return l.Addr().String()
}

func TestAReplyThatIsNoHTTPOrHasNoEndIsAFailure(t *testing.T) {
	for name, reply := range map[string]string{
		"garbage":      "\x16\x03\x01hello",
		"endless head": "HTTP/1.1 200 OK\r\n" + strings.Repeat("x: y\r\n", 1<<14),
		"nothing":      "",
		"only 1xx":     strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 4),
	} {
		addr := answer(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1024))
			_, _ = io.WriteString(c, reply)
		})
		if err := (Check{Kind: HTTP}).Probe(t.Context(), addr); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	early := answer(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1024))
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
	})
	if err := (Check{Kind: HTTP}).Probe(t.Context(), early); err != nil {
		t.Errorf("early hints: %v", err)
	}
}

func TestACheckEndsWithItsTimeoutOrContext(t *testing.T) {
	silent := answer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	if err := (Check{Kind: HTTP, Timeout: MinTimeout}).Probe(t.Context(), silent); err == nil {
		t.Error("a silent server passed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Check{Timeout: time.Minute}).Probe(ctx, silent); err == nil {
		t.Error("passed after its context had ended")
	}
}

func TestATCPCheckOnlyConnects(t *testing.T) {
	addr := answer(t, func(net.Conn) {})
	if err := (Check{}).Probe(t.Context(), addr); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := (Check{}).Probe(t.Context(), l.Addr().String()); err == nil {
		t.Error("a closed port passed")
	}
	if err := (Check{Kind: None}).Probe(t.Context(), l.Addr().String()); err != nil {
		t.Errorf("a check that is off: %v", err)
	}
}

func TestThresholdsDecideWhenReadinessChanges(t *testing.T) {
	c := Check{HealthyAfter: 2, UnhealthyAfter: 3}
	var got strings.Builder
	var s State
	for _, healthy := range []bool{true, false, false, true, false, false, false, true, false, true, true} {
		s = s.After(c, healthy)
		if s.Ready {
			got.WriteByte('+')
		} else {
			got.WriteByte('-')
		}
	}
	if got.String() != "++++++----+" {
		t.Errorf("got %s", &got)
	}
	if s := (State{}).After(c, false); !s.Known || s.Ready {
		t.Errorf("the first result: %+v", s)
	}
}

func TestWatchReportsTheFirstResultAndEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start, down := time.Now(), errors.New("down")
		var got []string
		n := 0
		Watch(ctx, Check{}, func(context.Context) error {
			n++
			switch n {
			case 3, 5, 6, 7:
				return down
			case 9:
				cancel()
				return down
			}
			return nil
		}, func(ready bool, err error) {
			got = append(got, fmt.Sprintf("%.0fs %v %v", time.Since(start).Seconds(), ready, err))
		})
		if s := strings.Join(got, ", "); s != "0s true <nil>, 5s false down, 7s true <nil>" {
			t.Errorf("got %s", s)
		}
	})
}

func TestWhatIsReadyStaysSoWhileThisMachineCannotAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		lacking := &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		var got []string
		n := 0
		Watch(ctx, Check{}, func(context.Context) error {
			if n++; n == 20 {
				cancel()
			}
			if n == 2 {
				return nil
			}
			return lacking
		}, func(ready bool, err error) { got = append(got, fmt.Sprint(ready, " ", errors.Is(err, syscall.EMFILE))) })
		if s := strings.Join(got, ", "); s != "false true, true false" {
			t.Errorf("got %s", s)
		}
	})
}

func TestWhatIsNotUpAtTheFirstCheckIsCheckedSoonAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began, checks := time.Now(), 0
		var ready time.Duration
		Watch(ctx, Check{Interval: 30 * time.Second}, func(context.Context) error {
			checks++
			switch up := time.Since(began) > 2*time.Second; {
			case !up:
				return errors.New("refused")
			case ready == 0:
				return nil
			}
			cancel()
			return nil
		}, func(is bool, _ error) {
			if is {
				ready = time.Since(began)
			}
		})
		if ready > 5*time.Second || checks > 10 {
			t.Errorf("ready after %v and %d checks: 2s were to be waited for", ready, checks)
		}
		if again := time.Since(began) - ready; again < 27*time.Second {
			t.Errorf("checked again after %v, before the interval", again)
		}
	})
}

func TestACheckThatIsOffIsReadyAtOnce(t *testing.T) {
	called := false
	Watch(t.Context(), Check{Kind: None}, nil, func(ready bool, err error) { called = ready && err == nil })
	if !called {
		t.Error("was not reported ready")
	}
}

func TestBadChecksAreToldByKey(t *testing.T) {
	var got []string
	Check{Path: "x", Interval: 1, Timeout: time.Hour, HealthyAfter: -1, UnhealthyAfter: 1000}.Validate(func(key, _ string) { got = append(got, key) })
	if len(got) != 5 {
		t.Errorf("faults at %v", got)
	}
	Check{}.Validate(func(key, problem string) { t.Errorf("the zero check: %s: %s", key, problem) })
	Check{}.WithDefaults().Validate(func(key, problem string) { t.Errorf("the defaults: %s: %s", key, problem) })
	var k Kind
	if err := k.UnmarshalText([]byte("icmp")); err == nil {
		t.Error("icmp was taken")
	}
}
