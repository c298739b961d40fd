package load

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const answer = "isthmus isthmus isthmus"

// server is net/http's, with both versions in plain text.
func server(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func options(p Protocol, to netip.AddrPort) Options {
	o := Options{Protocol: p, Address: to, Authority: "orders.shop.mesh", Answer: answer, Connections: 4, Streams: 1,
		Duration: 100 * time.Millisecond, Timeout: 20 * time.Second}
	if p != HTTP1 {
		o.Streams = 5
	}
	return o
}

func TestALoadIsAnsweredByGosOwnServer(t *testing.T) {
	var asked atomic.Int64
	to := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		want, body := "HTTP/2.0", 0
		switch r.URL.Path {
		case "/bench.Orders/Get":
			body = grpcRequestSize + 5
		default:
			want = map[bool]string{true: "HTTP/1.1", false: "HTTP/2.0"}[r.ProtoMajor == 1]
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return // a load ends with requests under way
		}
		if len(b) != body || r.Proto != want || r.Host != "orders.shop.mesh" {
			t.Errorf("%s %s of %s with %d bytes", r.Proto, r.URL, r.Host, len(b))
		}
		if body == 0 {
			_, _ = io.WriteString(w, answer)
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(grpcMessage(answer))
		w.Header().Set("Grpc-Status", "0")
	})
	for _, p := range []Protocol{HTTP1, HTTP2, GRPC} {
		for _, rate := range []float64{0, 200} {
			o := options(p, to)
			o.Rate = rate
			asked.Store(0)
			got, err := Run(o)
			if err != nil {
				t.Fatalf("%s at rate %v: %v", p, rate, err)
			}
			if got.Requests == 0 || got.P50 <= 0 || got.P99 < got.P50 || got.Duration < o.Duration || int64(got.Requests) > asked.Load() {
				t.Errorf("%s at rate %v: %+v, of %d that were asked", p, rate, got, asked.Load())
			}
			if most := uint64(rate * got.Duration.Seconds()); rate > 0 && got.Requests > most {
				t.Errorf("%s: %d requests, want %d at most", p, got.Requests, most)
			}
		}
		o := options(p, to)
		release := make(chan struct{})
		if err := Hold(o, func() error { close(release); return nil }, release); err != nil {
			t.Errorf("%s, held: %v", p, err)
		}
	}
}

func TestALoadWithAConnectionPerRequest(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	o := options(HTTP1, netip.MustParseAddrPort(s.Listener.Addr().String()))
	o.Reconnect = true
	got, err := Run(o)
	if err != nil || int64(got.Requests) > connections.Load() {
		t.Errorf("%+v in %d connections, %v", got, connections.Load(), err)
	}
}

func TestTheOriginAnswersEveryRequest(t *testing.T) {
	for _, p := range []Protocol{HTTP2, GRPC} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- Origin(l, p, answer) }()
		to := netip.MustParseAddrPort(l.Addr().String())
		if got, err := Run(options(p, to)); err != nil || got.Requests == 0 {
			t.Errorf("%s: %+v, %v", p, got, err)
		}
		client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
		client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
		resp, err := client.Post("http://"+to.String()+"/bench.Orders/Get", "application/grpc", strings.NewReader("request"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if p == GRPC && resp.Trailer.Get("Grpc-Status") != "0" || err != nil || !strings.HasSuffix(string(b), answer) {
			t.Errorf("%s: %q, %v, trailers %v", p, b, err, resp.Trailer)
		}
		client.CloseIdleConnections()
		l.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestAnyOtherAnswerIsAnError(t *testing.T) {
	for says, handler := range map[string]http.HandlerFunc{
		"want 200": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, answer, http.StatusBadGateway) },
		"origin":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "another answer") },
		"":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		to := server(t, handler)
		for _, p := range []Protocol{HTTP1, HTTP2, GRPC} {
			if got, err := Run(options(p, to)); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %+v, %v, want an error with %q", p, got, err, says)
			}
		}
	}
}
