package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Reload reads the configuration again and puts in force what can change while the
// gateway runs. The gateway must have been given a way to read it.
func (g *Gateway) Reload(ctx context.Context) *status.Reload { return g.reloader.Reload(ctx) }

// Drain is how long a shutdown may take.
func (g *Gateway) Drain() time.Duration { return g.inForce.Load().Drain }

// reload is what the reloader does, one call at a time. Other trust domains
// and the folder of resources are first: they are all that can be refused once the
// configuration is found good.
func (g *Gateway) reload(ctx context.Context) (changed, restart []string, err error) {
	if !g.wired.Load() {
		return nil, nil, errors.New("the gateway is still starting")
	}
	read, err := g.opts.Configuration()
	if err != nil {
		return nil, nil, err
	}
	if err := checkAddresses(read); err != nil {
		return nil, nil, err
	}
	was := g.inForce.Load()
	next := *was
	next.Join, next.Imports, next.Resources, next.Limits, next.Drain, next.Log.Level = read.Join, read.Imports, read.Resources, read.Limits, read.Drain, read.Log.Level
	next.TrustDomains = read.TrustDomains
	if err := enroll.TrustDomains(g.identity, next.TrustDomains); err != nil {
		return nil, nil, err
	}
	if next.Resources != was.Resources {
		if err := g.files.Move(ctx, next.Resources); err != nil {
			return nil, nil, &config.KeyError{Key: "resources", Problem: err.Error()}
		}
	}
	g.inForce.Store(&next)
	g.setJoin()
	g.federation.SetImports(next.Imports)
	g.forward.SetLimits(next.Limits.PathsPerSource, next.Limits.Paths)
	if g.opts.Level != nil {
		g.opts.Level.Set(slog.Level(next.Log.Level))
	}
	return config.Changes(was, &next), config.Changes(&next, read), nil
}
