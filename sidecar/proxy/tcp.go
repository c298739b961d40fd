package proxy

import (
	"errors"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// serveTCP relays c to one of the service's hosts. Hosts that cannot be reached cost
// the client nothing but time; once a connection is made, its end is the client's.
func (s *server) serveTCP(c *client, to *upstream.Service, _ http1.RequestRewrite) {
	_ = c.SetReadDeadline(time.Time{})
	s.tunnel(c, to, func() error { return nil }, func(error) { c.Abort() })
}

// tunnel relays c to one of the service's hosts, if the policy lets it. opened is called
// once a connection is made, before anything is relayed, and refused with the reason when
// none is; it ends c. An error of opened is the client's end.
//
// The relaying is left as c's rest: who waited for it would hold a stack that has grown for
// as long as the connection lasts.
func (s *server) tunnel(c *client, to *upstream.Service, opened func() error, refused func(error)) {
	t := &tcpTunnel{s: s, c: c, began: time.Now()}
	if t.open(to, opened, refused) {
		c.Rest = t.relay
	}
}

// relay relays until both ends have ended, or the proxy must.
func (t *tcpTunnel) relay(over func()) {
	s := t.s
	t.over = over
	s.p.relays.Add(t.c, &t.lease, &t.pair)
	t.pair.Start(&s.p.waiting, t.c.Conn, t.conn, s.http.Timeouts.Relay, t.close)
}

// tcpTunnel is a client's connection and what it is relayed to.
type tcpTunnel struct {
	s     *server
	c     *client
	began time.Time
	lease upstream.Lease
	conn  relay.Conn // of the lease
	pair  relay.Pair
	over  func()
}

// open connects, unless the policy refuses it, and reports whether there is a connection.
func (t *tcpTunnel) open(to *upstream.Service, opened func() error, refused func(error)) bool {
	s, c := t.s, t.c
	if s.access != nil {
		if err := s.access.Admit(c); err != nil {
			s.metrics.refused().Inc()
			s.log.Debug("tcp connection refused", "peer_id", c.Peer, "peer_addr", c.PeerAddr(), "err", err)
			refused(err)
			return false
		}
	}
	s.metrics.tcpOpen().Inc()
	s.metrics.tcpTotal().Inc()
	var attempts upstream.Attempts // they are large, and over when the connection is there
	attempts.Begin(to, s.retries, t.began)
	attempts.Fresh()
	attempts.Streams()
	err := t.reach(&attempts)
	s.metrics.Unreached(attempts.Unreached())
	if err != nil {
		s.metrics.tcpFailed().Inc()
		level := slog.LevelInfo
		if failed := (*upstream.ConnectError)(nil); errors.As(err, &failed) && failed.Advice() != "" {
			level = slog.LevelDebug // upstream has a line a minute for that
		}
		s.log.Log(s.p.ctx, level, "tcp connection refused", "peer_addr", c.PeerAddr(), "err", err)
		t.leave()
		refused(exchange.Unreached(err))
		return false
	}
	if err := opened(); err != nil { // the client is gone: the relay finds out
		c.Abort()
	}
	return true
}

// reach connects to one of the hosts: by the lease's connection, or by a CONNECT stream of it
// that the host has opened.
func (t *tcpTunnel) reach(attempts *upstream.Attempts) error {
	for {
		lease, err := attempts.Next(t.s.calling(t.c), func() bool { return !t.c.Gone() })
		if err != nil {
			return err
		}
		stream := lease.Stream()
		if stream == nil {
			t.lease, t.conn = lease.Last(), lease.Conn
			return nil
		}
		if err = openTunnel(stream, t.s.destination); err == nil {
			t.lease, t.conn = lease.Last(), stream
			return nil
		}
		outcome := upstream.Broken
		switch refusal := (*connect.Refusal)(nil); {
		case isDenied(err):
			outcome = upstream.Answered // it is our caller who may not
		case errors.As(err, &refusal):
			outcome = upstream.Unserved
		}
		lease.Done(outcome, 0)
		_ = lease.Close()
		attempts.Failed(err)
		if isDenied(err) || t.c.Gone() || !attempts.MayRetry(upstream.Unseen, false) || !attempts.Retry(upstream.Unseen) {
			return err
		}
	}
}

// close ends what was relayed.
func (t *tcpTunnel) close(stats relay.Stats, err error) {
	s, c, lease := t.s, t.c, &t.lease
	c.Rest = nil
	s.p.relays.Remove(c)
	outcome := upstream.Answered
	if err != nil {
		// Who broke it off is not known, and most often it is a client.
		outcome = upstream.Abandoned
	}
	lease.Done(outcome, 0)
	s.metrics.Relayed(stats)
	s.log.Debug("tcp connection over", "peer_addr", c.PeerAddr(), "host", lease.Addr(), "cluster", string(lease.Cluster), "instance", lease.Instance,
		"sent", stats.AToB, "received", stats.BToA, "duration", time.Since(t.began), "err", err)
	t.leave()
	_ = lease.Close()
	t.over()
}

// leave undoes what open counted.
func (t *tcpTunnel) leave() {
	t.s.metrics.tcpOpen().Dec()
	if t.s.access != nil {
		t.s.access.Leave(t.c)
	}
}
