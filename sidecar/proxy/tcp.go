package proxy

import (
	"errors"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// serveTCP relays c to one of the service's hosts. Hosts that cannot be reached cost
// the client nothing but time; once a connection is made, its end is the client's.
func (s *server) serveTCP(c *client, to *upstream.Service, _ http1.RequestRewrite) {
	if s.access != nil {
		if err := s.access.Admit(c); err != nil {
			s.metrics.refused().Inc()
			s.log.Debug("tcp connection refused", "peer_id", c.Peer, "peer_addr", c.PeerAddr(), "err", err)
			c.Abort()
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
	lease, err := attempts.Next(s.calling(c), func() bool { return !c.Gone() })
	s.metrics.Unreached(attempts.Unreached())
	if err != nil {
		s.metrics.tcpFailed().Inc()
		level := slog.LevelInfo
		if failed := (*upstream.ConnectError)(nil); errors.As(err, &failed) && failed.Advice() != "" {
			level = slog.LevelDebug // upstream has a line a minute for that
		}
		s.log.Log(s.p.ctx, level, "tcp connection refused", "peer_addr", c.PeerAddr(), "err", err)
		c.Abort()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	s.p.relays.Add(c, lease)
	stats, err := relay.Copy(s.p.ctx, c.Conn, lease.Conn, s.http.Timeouts.Relay)
	s.p.relays.Remove(c)
	outcome := upstream.Answered
	if err != nil {
		// Who broke it off is not known, and most often it is a client.
		outcome = upstream.Abandoned
	}
	lease.Done(outcome, 0)
	s.metrics.Relayed(stats)
	s.log.Debug("tcp connection over", "peer_addr", c.PeerAddr(), "host", lease.Addr(), "cluster", string(lease.Cluster), "instance", lease.Instance,
		"sent", stats.AToB, "received", stats.BToA, "duration", time.Since(began), "err", err)
}
