package federation

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// loop asks the core what to do whenever it was told something, and every tick.
func (f *Federation) loop(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		f.step(ctx)
		last := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-f.core.changed.C():
		case <-t.C:
		}
		if early := viewInterval - time.Since(last); early > 0 && !state.Pause(ctx, early) {
			return
		}
	}
}

// step asks the core once and does what it says. It is called by loop only.
func (f *Federation) step(ctx context.Context) {
	now := time.Now()
	var todo core.Actions
	f.core.with(func(c *core.Core) {
		c.Apply(now, core.Certificate{Chain: f.cfg.Identity.Chain(), Founding: f.cfg.Identity.Self().Founding})
		todo = c.Step(now)
	})

	for _, n := range todo.Notes {
		f.log.Log(ctx, n.Level, n.Message, n.Args...)
	}
	for _, r := range todo.Refusals {
		f.cfg.Audit.Add(audit.Event{Kind: audit.Catalog, Decision: audit.Refused, Who: r.Signer.String(), What: r.Service.String(), Why: r.Why})
	}
	f.metrics.conflicts.Add(float64(todo.Conflicts))
	if todo.Targets != nil {
		targets := make([]tunnel.Target, len(todo.Targets))
		for i, t := range todo.Targets {
			targets[i] = tunnel.Target(t)
		}
		f.cfg.Tunnel.SetTargets(targets)
	}
	for _, id := range todo.Redial {
		f.cfg.Tunnel.Redial(id)
	}
	for _, id := range todo.Doubt {
		f.cfg.Tunnel.Doubt(id)
	}
	for _, id := range todo.Forgotten {
		f.cfg.Tunnel.Forget(id)
	}
	if todo.View != nil {
		f.view.Set(todo.View)
	}
	if todo.Save {
		f.memory.saver.Changed()
	}
	for _, id := range todo.Sync {
		f.running.Go(func() { f.sync(ctx, id) })
	}
	for _, p := range todo.Pull {
		f.running.Go(func() { f.pull(ctx, p) })
	}
	if from := todo.MoveEpoch; !from.IsZero() {
		f.running.Go(func() { f.own.moveEpoch(ctx, from) })
	}
	if todo.ReSign {
		f.own.update(func(s *catalog.State) (*catalog.State, error) { return s.Again(), nil })
	}
}

// watchTunnels tells the core of the tunnels, whenever they change.
func (f *Federation) watchTunnels(ctx context.Context) {
	for {
		all, past := f.cfg.Tunnel.Peers()
		peers := make(core.Tunnels, len(all))
		for i, p := range all {
			peers[i] = core.Peer{Gateway: p.Gateway, Addr: p.Addr, Left: p.Left, LastErr: p.LastError, Founding: p.Founding, Tunnel: Tunnel{Up: p.State == tunnel.Up, Since: p.Since}}
		}
		f.core.apply(peers)
		select {
		case <-ctx.Done():
			return
		case <-past:
		}
	}
}
