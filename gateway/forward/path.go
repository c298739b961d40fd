package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// path is one client and what it asked for.
type path struct {
	f     *Forward
	dir   direction
	conn  relay.Conn // the client; owned by the goroutine that calls serve
	sni   bool       // the client knows no HTTP: it gets no reply, and alerts for refusals
	req   Request
	entry *drain.Entry // of f.open, while serve runs

	// proved is called once the client has shaken hands, see unproved; nil: it was.
	proved  func()
	records records // what it has sent so far

	// refusal is why there is no path, for who entered within this process.
	refusal atomic.Pointer[connect.Refusal]

	leave     func() // ends what expectGoodbye began; nil: it did not
	answered  bool   // the client was told why it may not call, and is closed
	sentEarly int64  // bytes of the payload that were sent before the relay began
}

// serve opens the path, carries it to its end and closes the client. payload
// was read from the client behind the head.
func (p *path) serve(payload []byte) {
	f := p.f
	ctx, cancel := context.WithCancelCause(f.base)
	defer cancel(nil)
	if p.entry = f.open.Add(cancel, nil); p.entry == nil {
		p.refuse(connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
			"gateway %s is draining: use another", f.cfg.Self))
		return
	}
	defer p.entry.Remove()
	begun := time.Now()
	early := newEarly(p.conn, payload)
	won, refusal := p.reach(ctx, early)
	if refusal != nil {
		p.refuse(refusal)
		return
	}
	defer f.release(won)
	defer func() {
		if p.leave != nil {
			p.leave()
		}
	}()
	f.metrics.setup[p.dir].Observe(time.Since(begun).Seconds())

	unhook := context.AfterFunc(ctx, func() { relay.Abort(won.conn) })
	to, err := p.open(ctx, early, won)
	unhook()
	if err != nil {
		early.stop()
		p.fail(won, err)
		return
	}
	p.carry(ctx, won, to)
}

// reach finds who serves the path. On success early goes on being read.
func (p *path) reach(ctx context.Context, early *early) (*attempt, *connect.Refusal) {
	f := p.f
	p.req.Load, p.req.Intn = f.load.of, rand.IntN
	choose := f.cfg.Outbound
	if p.dir == inbound {
		choose = f.cfg.Inbound
	}
	candidates, refusal := choose(&p.req)
	if refusal != nil {
		return nil, refusal
	}
	if len(candidates) == 0 {
		return nil, connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "nobody serves %s", p.req.Destination)
	}
	if _, _, _, err := early.look(0); err != nil {
		return nil, clientRefusal(err)
	}
	early.start()
	r := &race{f: f, req: &p.req, early: early}
	won, refusal := r.run(ctx, candidates)
	if refusal != nil {
		early.stop()
	}
	return won, refusal
}

// fail resets both sides of a path of which the client was told that it is open.
func (p *path) fail(won *attempt, err error) {
	if !p.answered {
		relay.Abort(p.conn)
	}
	relay.Abort(won.conn)
	reason := connect.ConnectionTerminated
	switch {
	case errors.Is(err, errNotTLS):
		reason = reasonNotTLS
	case errors.Is(err, errMayNotCall):
		reason = connect.RequestDenied
	}
	p.f.metrics.refusal(p.dir, reason)
	p.log("path failed", won, relay.Stats{}, err)
}

// carry relays between the client and to until both have ended.
func (p *path) carry(ctx context.Context, won *attempt, to relay.Conn) {
	m := p.f.metrics
	m.opened[p.dir].Inc()
	m.open[p.dir].Inc()
	stats, err := relay.CopyUntilQuiet(ctx, p.f.drainDeadline, p.unproved(), to, p.f.cfg.Idle)
	m.open[p.dir].Dec()
	stats.AToB += p.sentEarly
	m.sent[p.dir].Add(float64(stats.AToB))
	m.received[p.dir].Add(float64(stats.BToA))
	if err != nil {
		m.failed[p.dir].Inc()
	}
	p.log("path ended", won, stats, err)
}

// open tells the client that its path is open, sees that it sends TLS, and
// hands on what it sent so far. It returns the connection to relay p.conn with.
func (p *path) open(ctx context.Context, early *early, won *attempt) (relay.Conn, error) {
	if !p.sni {
		_ = p.conn.SetWriteDeadline(time.Now().Add(headTimeout))
		if _, err := p.conn.Write(connect.AppendOpened(nil, won.who)); err != nil {
			return nil, fmt.Errorf("write the reply: %w", err)
		}
		_ = p.conn.SetWriteDeadline(time.Time{})
		if p.req.Goodbyes {
			p.leave = p.expectGoodbye(&won.candidate)
		}
	}
	hello, cancel := context.WithTimeoutCause(ctx, headTimeout, fmt.Errorf("no TLS ClientHello within %s", headTimeout))
	defer cancel()
	if err := early.verified(hello); err != nil {
		return nil, err
	}
	payload := early.stop()
	p.records.add(payload, false)

	if won.candidate.Remote() {
		p.sentEarly = int64(len(payload))
		return &behindEarly{Conn: relay.WithPrefix(won.conn, won.rest), won: won}, nil
	}
	if won.candidate.Endpoint.Identity == "" {
		return won.conn, p.endTLS(hello, payload, &won.candidate)
	}
	_ = won.conn.SetWriteDeadline(time.Now().Add(headTimeout))
	if _, err := won.conn.Write(payload); err != nil {
		return nil, fmt.Errorf("write to endpoint %s: %w", won.candidate.Endpoint.Instance, err)
	}
	_ = won.conn.SetWriteDeadline(time.Time{})
	p.sentEarly = int64(len(payload))
	return won.conn, nil
}

// behindEarly is the connection to a far gateway to which the early payload may
// still be on its way: writes wait for it, reads need not.
type behindEarly struct {
	relay.Conn
	won *attempt
}

func (b *behindEarly) Write(p []byte) (int, error) {
	if <-b.won.written; b.won.writeErr != nil {
		return 0, b.won.writeErr
	}
	return b.Conn.Write(p)
}

func (b *behindEarly) CloseWrite() error {
	if <-b.won.written; b.won.writeErr != nil {
		return b.won.writeErr
	}
	return b.Conn.CloseWrite()
}

// NetConn returns the connection below, for [relay.Abort].
func (b *behindEarly) NetConn() net.Conn { return b.Conn }

func (p *path) log(what string, a *attempt, stats relay.Stats, err error) {
	log := p.f.cfg.Log
	if !log.Enabled(p.f.base, slog.LevelDebug) {
		return
	}
	log.Debug(what, "service", p.req.Destination.String(), "peer_addr", p.conn.RemoteAddr().String(),
		"cluster", string(a.who.Cluster), "instance", a.who.Name, "via", a.candidate.String(),
		"sent", stats.AToB, "received", stats.BToA, "err", err)
}
