package proxy

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// errNobody says that there was no host to ask.
var errNobody = errors.New("no instance is ready and no gateway reaches one: see isthmus status")

// serveTCP relays c to one of service's hosts. Hosts that cannot be reached cost the
// client nothing but time; once a connection is made, its end is the client's.
func (s *server) serveTCP(c *client, service *upstream.Service) {
	s.metrics.tcpOpen.Inc()
	s.metrics.tcpTotal.Inc()
	defer s.metrics.tcpOpen.Dec()
	service.Begin()
	began := time.Now()
	host, conn, err := s.connect(c, service)
	if err != nil {
		s.metrics.tcpFailed.Inc()
		s.log.Info("tcp connection refused", "peer_addr", c.tracked.conn.RemoteAddr().String(), "err", err)
		c.abort()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	name := upstreamName{host.Addr(), string(conn.Cluster), conn.Instance}
	stats, err := relay.Copy(s.p.ctx, c.Conn, conn, relayTimeout)
	outcome := upstream.Answered
	if err != nil {
		// Who broke it off is not known, and most often it is a client.
		outcome = upstream.Abandoned
	}
	host.Done(nil, conn, outcome, 0)
	s.metrics.relayed(stats)
	s.log.Debug("tcp connection over", "peer_addr", c.tracked.conn.RemoteAddr().String(), "host", name.addr, "cluster", name.cluster, "instance", name.instance,
		"sent", stats.AToB, "received", stats.BToA, "duration", time.Since(began), "err", err)
}

// connect gets a connection to one of service's hosts.
func (s *server) connect(c *client, service *upstream.Service) (*upstream.Host, *upstream.Conn, error) {
	x := exchange{session: &session{s: s, client: c}, service: service, started: time.Now()}
	x.retry.last = errNobody
	x.try.Fresh()
	ctx := s.calling(c)
	for {
		host, ok := x.next()
		if !ok {
			return nil, nil, x.retry.last
		}
		conn, err := host.Get(ctx, &x.try)
		if err == nil {
			return host, conn, nil
		}
		host.Done(&x.try, nil, upstream.Broken, 0)
		x.retry.failed(err)
		s.metrics.retry(unreached)
	}
}
