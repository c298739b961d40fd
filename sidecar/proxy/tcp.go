package proxy

import (
	"errors"
	"log/slog"
	"time"

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
func (s *server) tunnel(c *client, to *upstream.Service, opened func() error, refused func(error)) {
	if s.access != nil {
		if err := s.access.Admit(c); err != nil {
			s.metrics.refused().Inc()
			s.log.Debug("tcp connection refused", "peer_id", c.Peer, "peer_addr", c.PeerAddr(), "err", err)
			refused(err)
			return
		}
		defer s.access.Leave(c)
	}
	s.metrics.tcpOpen().Inc()
	s.metrics.tcpTotal().Inc()
	defer s.metrics.tcpOpen().Dec()
	began := time.Now()
	var attempts upstream.Attempts
	attempts.Begin(to, s.retries, began)
	attempts.Fresh()
	attempts.Streams()
	lease, conn, err := s.reach(c, &attempts)
	s.metrics.Unreached(attempts.Unreached())
	if err != nil {
		s.metrics.tcpFailed().Inc()
		level := slog.LevelInfo
		if failed := (*upstream.ConnectError)(nil); errors.As(err, &failed) && failed.Advice() != "" {
			level = slog.LevelDebug // upstream has a line a minute for that
		}
		s.log.Log(s.p.ctx, level, "tcp connection refused", "peer_addr", c.PeerAddr(), "err", err)
		refused(exchange.Unreached(err))
		return
	}
	defer lease.Close()
	outcome := upstream.Answered
	var stats relay.Stats
	if err = opened(); err != nil {
		relay.Abort(conn)
		c.Abort()
	} else {
		s.p.relays.Add(c, lease)
		stats, err = relay.Copy(s.p.ctx, c.Conn, conn, s.http.Timeouts.Relay)
		s.p.relays.Remove(c)
	}
	if err != nil {
		// Who broke it off is not known, and most often it is a client.
		outcome = upstream.Abandoned
	}
	lease.Done(outcome, 0)
	s.metrics.Relayed(stats)
	s.log.Debug("tcp connection over", "peer_addr", c.PeerAddr(), "host", lease.Addr(), "cluster", string(lease.Cluster), "instance", lease.Instance,
		"sent", stats.AToB, "received", stats.BToA, "duration", time.Since(began), "err", err)
}

// reach connects to one of the hosts: the lease's connection, or a CONNECT stream of it that
// the host has opened.
func (s *server) reach(c *client, attempts *upstream.Attempts) (*upstream.Lease, relay.Conn, error) {
	for {
		lease, err := attempts.Next(s.calling(c), func() bool { return !c.Gone() })
		if err != nil {
			return nil, nil, err
		}
		stream := lease.Stream()
		if stream == nil {
			return lease, lease.Conn, nil
		}
		if err = openTunnel(stream, s.destination); err == nil {
			return lease, stream, nil
		}
		lease.Done(upstream.Broken, 0)
		_ = lease.Close()
		attempts.Failed(err)
		if denied(err) || c.Gone() || !attempts.MayRetry(upstream.Unseen, false) || !attempts.Retry(upstream.Unseen) {
			return nil, nil, err
		}
	}
}
