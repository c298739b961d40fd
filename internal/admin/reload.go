package admin

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Reloader reads a process's configuration again when it is told to, by SIGHUP or
// at the admin port. Its methods may be called concurrently.
type Reloader struct {
	log   *slog.Logger
	apply func(context.Context) (changed, restart []string, err error)

	running sync.Mutex // one reload at a time
	last    atomic.Pointer[status.Reload]
}

// NewReloader returns a reloader. apply reads the configuration and puts in force
// what can change while the process runs: changed are the keys whose new values
// are in force, restart those that wait for a restart. With an error nothing has
// changed. It must return soon after its context ends.
func NewReloader(log *slog.Logger, apply func(context.Context) (changed, restart []string, err error)) *Reloader {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Reloader{log: log, apply: apply}
}

// Reload reloads, logs the verdict and returns it.
func (r *Reloader) Reload(ctx context.Context) *status.Reload {
	r.running.Lock()
	defer r.running.Unlock()
	ctx, cancel := context.WithTimeout(ctx, status.ReloadTimeout)
	defer cancel()
	verdict := &status.Reload{At: time.Now()}
	var err error
	if verdict.Changed, verdict.Restart, err = r.apply(ctx); err != nil {
		verdict.Error = err.Error()
	}
	r.last.Store(verdict)
	switch {
	case err != nil:
		r.log.Error("configuration not reloaded: the old one stays in force", "err", err)
	case len(verdict.Restart) > 0:
		r.log.Warn("configuration reloaded, but for keys that wait for a restart", "changed", verdict.Changed, "restart", verdict.Restart)
	default:
		r.log.Info("configuration reloaded", "changed", verdict.Changed)
	}
	return verdict
}

// Last returns the verdict of the last reload; nil: there was none.
func (r *Reloader) Last() *status.Reload { return r.last.Load() }
