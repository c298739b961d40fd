package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

const (
	headTimeout  = 5 * time.Second        // a caller that has not sent its head by then is cut off
	idleTimeout  = 60 * time.Second       // keep-alive between two scrapes
	closeTimeout = 500 * time.Millisecond // running answers get this long when the process ends
	maxHeadBytes = 16 << 10
	maxBundle    = 1 << 20 // bytes, as package identity reads
)

// Config says what an admin port serves.
type Config struct {
	Ports     Ports                                                 // Run closes them
	Started   *Readiness                                            // what /startz reports; nil: what /readyz does
	Readiness *Readiness                                            // what /readyz reports
	Metrics   prometheus.Gatherer                                   // what /metrics serves
	Probes    http.Handler                                          // what GET /probes/ answers; nil: there is no such page
	Status    func() any                                            // what /status encodes; must not block
	Reload    *Reloader                                             // what POST /reload does; nil: there is no such page
	Bundle    func(signed []byte) (changed bool, err error)         // what POST /trust does with its body; nil: there is no such page
	Forget    func(ctx context.Context, name string) *status.Forget // what POST /forget?name= does; nil: there is no such page
	Authz     func(url.Values) *status.Authorization                // what GET /authz answers; nil: there is no such page
	Audit     *audit.Log                                            // of what was asked for that changes something, and of who was refused; nil: none
	Log       *slog.Logger
}

// Server is an admin port, and those that serve a part of it.
type Server struct{ cfg Config }

// New returns a server that does not serve yet.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Run serves until ctx ends, or one of the ports fails.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range s.cfg.Ports.all(s) {
		if p.listener != nil {
			group.Go(func() error { return s.serve(ctx, p) })
		}
	}
	return group.Wait()
}

// serve serves one port until ctx ends.
func (s *Server) serve(ctx context.Context, p port) error {
	srv := &http.Server{
		Handler:           p.handler,
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
	err := srv.Serve(p.listener)
	if !stop() {
		<-closed // Serve returns when that begins
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", p.key, err)
	}
	return nil
}

// pages serves everything but profiles.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	s.addPublic(mux)
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
	if s.cfg.Bundle != nil {
		mux.HandleFunc("POST /trust", s.takeBundle)
	}
	if s.cfg.Authz != nil {
		mux.HandleFunc("GET /authz", func(w http.ResponseWriter, r *http.Request) {
			code, answer := http.StatusOK, s.cfg.Authz(r.URL.Query())
			if answer.Error != "" {
				code = http.StatusUnprocessableEntity
			}
			s.writeJSON(w, code, answer)
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
	return audited(s.cfg.Audit, fromHere(mux))
}

// takeBundle hands on a signed bundle.
func (s *Server) takeBundle(w http.ResponseWriter, r *http.Request) {
	code, verdict := http.StatusOK, status.TrustVerdict{}
	signed, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBundle))
	if err == nil {
		verdict.Changed, err = s.cfg.Bundle(signed)
	}
	if err != nil {
		code, verdict.Error = http.StatusUnprocessableEntity, err.Error()
	}
	verdict.Answered = true
	s.writeJSON(w, code, &verdict)
}

// public serves what a port for other hosts may.
func (s *Server) public() http.Handler {
	mux := http.NewServeMux()
	s.addPublic(mux)
	return mux
}

func (s *Server) addPublic(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	started := s.cfg.Started
	if started == nil {
		started = s.cfg.Readiness
	}
	mux.HandleFunc("GET /startz", unmet("not started", started))
	mux.HandleFunc("GET /readyz", unmet("not ready", s.cfg.Readiness))
	if s.cfg.Probes != nil {
		mux.Handle("GET /probes/", s.cfg.Probes)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}))
}

// unmet says ok, or what does not hold.
func unmet(but string, of *Readiness) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if unmet := of.Unmet(); len(unmet) > 0 {
			var b strings.Builder
			b.WriteString(but + ":\n")
			for _, c := range unmet {
				fmt.Fprintf(&b, "%s: %s\n", c.Name, c.Reason)
			}
			http.Error(w, strings.TrimSpace(b.String()), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
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
