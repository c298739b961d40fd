package webhook

import (
	"context"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/inject"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/version"
)

// Status says what the webhook knows now.
func (w *Webhook) Status() *status.Webhook {
	cfg := w.inForce.Load()
	s := &status.Webhook{
		Webhook: w.cfg.WebhookConfiguration, Version: version.String(), Pending: w.ready.Unmet(), Uptime: time.Since(w.started).Seconds(),
		Cluster: string(cfg.Sidecar.Cluster), Image: cfg.Sidecar.Image,
	}
	s.Ready = len(s.Pending) == 0
	if c := w.leaf.Load(); c != nil {
		s.Certificate.NotAfter, s.Certificate.WarnFrom = c.Leaf.NotAfter, c.Leaf.NotAfter.Add(-leafLife/4)
	}
	if err := w.certificateErr.Load(); err != nil {
		s.Certificate.Error = err.Error()
	}
	for _, k := range w.kube.State() {
		if !k.Lost.IsZero() {
			s.Lost = append(s.Lost, status.LostKind{Kind: k.Kind, Since: k.Lost, Error: k.Err})
		}
	}
	if w.reloader != nil {
		s.Reload = w.reloader.Last()
	}
	return s
}

// Reload reads the configuration again and puts in force what can change while the process
// runs. It must have been given a way to read it.
func (w *Webhook) Reload(ctx context.Context) *status.Reload { return w.reloader.Reload(ctx) }

// reload is what the reloader does, one call at a time.
func (w *Webhook) reload(context.Context) (changed, restart []string, err error) {
	read, err := w.opts.Configuration()
	if err != nil {
		return nil, nil, err
	}
	injector, err := inject.Open(&read.Sidecar)
	if err != nil {
		return nil, nil, err
	}
	was := w.inForce.Load()
	next := *was
	next.Sidecar, next.Drain, next.Log.Level = read.Sidecar, read.Drain, read.Log.Level
	w.injector.Store(injector)
	w.inForce.Store(&next)
	if w.opts.Level != nil {
		w.opts.Level.Set(slog.Level(next.Log.Level))
	}
	return config.Changes(was, &next), config.Changes(&next, read), nil
}
