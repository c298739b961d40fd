package ca

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/version"
)

// Status says what the CA knows now.
func (ca *CA) Status() *status.CA {
	a := ca.authority.Load()
	s := &status.CA{
		ID: ca.identity.ID().String(), Version: version.String(), Pending: ca.ready.Unmet(), Uptime: time.Since(ca.started).Seconds(),
		Certificate: status.Certificate{NotAfter: ca.identity.NotAfter(), WarnFrom: ca.identity.WarnFrom(), Error: ca.identity.Fault()},
		Trust:       status.TrustOf(ca.identity), Gateways: ca.gateways.status(), Intermediate: a.Fingerprint().String(), TTL: ca.inForce.Load().TTL.Seconds(), TokensUsed: ca.used.count(), StateError: admin.KeptError(ca.kept()),
	}
	s.Ready = len(s.Pending) == 0
	if ca.reloader != nil {
		s.Reload = ca.reloader.Last()
	}
	return s
}

// Reload reads the configuration again and puts in force what can change while the CA
// runs. The CA must have been given a way to read it.
func (ca *CA) Reload(ctx context.Context) *status.Reload { return ca.reloader.Reload(ctx) }

// reload is what the reloader does, one call at a time.
func (ca *CA) reload(context.Context) (changed, restart []string, err error) {
	if !ca.wired.Load() {
		return nil, nil, errors.New("the CA is still starting")
	}
	read, err := ca.opts.Configuration()
	if err != nil {
		return nil, nil, err
	}
	if err := ca.takeAuthority(ca.identity); err != nil {
		return nil, nil, err
	}
	was := ca.inForce.Load()
	next := *was
	next.TTL, next.Drain, next.Log.Level = read.TTL, read.Drain, read.Log.Level
	ca.inForce.Store(&next)
	if ca.opts.Level != nil {
		ca.opts.Level.Set(slog.Level(next.Log.Level))
	}
	return config.Changes(was, &next), config.Changes(&next, read), nil
}
