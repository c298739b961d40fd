package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

const (
	headTimeout  = 5 * time.Second        // a caller that has not sent its head by then is cut off
	idleTimeout  = 60 * time.Second       // keep-alive between two scrapes
	closeTimeout = 500 * time.Millisecond // running answers get this long when the process ends
	maxHeadBytes = 16 << 10
)

// Config says what an admin port serves.
type Config struct {
	Listener  net.Listener                                          // the bound admin port; Run closes it
	Readiness *Readiness                                            // what /readyz reports
	Metrics   prometheus.Gatherer                                   // what /metrics serves
	Status    func() any                                            // what /status encodes; must not block
	Reload    *Reloader                                             // what POST /reload does; nil: there is no such page
	Forget    func(ctx context.Context, name string) *status.Forget // what POST /forget?name= does; nil: there is no such page
	Log       *slog.Logger
}

// Server is an admin port.
type Server struct{ cfg Config }

// New returns a server that does not serve yet.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if srv.Shutdown(c) != nil {
			_ = srv.Close() // whoever still reads a profile loses it
		}
	})
	err := srv.Serve(s.cfg.Listener)
	if !stop() {
		<-closed // Serve returns when that begins
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin port: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if unmet := s.cfg.Readiness.Unmet(); len(unmet) > 0 {
			var b strings.Builder
			b.WriteString("not ready:\n")
			for _, c := range unmet {
				fmt.Fprintf(&b, "%s: %s\n", c.Name, c.Reason)
			}
			http.Error(w, strings.TrimSpace(b.String()), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		s.writeJSON(w, http.StatusOK, s.cfg.Status())
	})
	if s.cfg.Reload != nil {
		mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
			code, verdict := http.StatusOK, s.cfg.Reload.Reload(context.WithoutCancel(r.Context())) // begun is done, whoever waits
			if verdict.Error != "" {
				code = http.StatusUnprocessableEntity
			}
			s.writeJSON(w, code, verdict)
		})
	}
	if s.cfg.Forget != nil {
		mux.HandleFunc("POST /forget", func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), status.ForgetTimeout) // begun is done, whoever waits
			defer cancel()
			code, verdict := http.StatusOK, s.cfg.Forget(ctx, r.URL.Query().Get("name"))
			if verdict.Error != "" {
				code = http.StatusUnprocessableEntity
			}
			s.writeJSON(w, code, verdict)
		})
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func (s *Server) writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		s.cfg.Log.Warn("encode an answer of the admin port", "err", err)
	}
}
