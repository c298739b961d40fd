package sidecar

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
)

// exchangeTimeouts are what t says, and the defaults of what it does not say.
func exchangeTimeouts(t config.Timeouts) exchange.Timeouts {
	all := exchange.DefaultTimeouts()
	all.Request = t.Request
	if t.Idle != nil {
		all.Idle, all.Relay = *t.Idle, *t.Idle
	}
	return all
}

// connectTimeout is t's bound as package upstream takes it, where 0 is the default.
func connectTimeout(t config.Timeouts) time.Duration {
	if t.Connect == 0 {
		return -1
	}
	return t.Connect
}

// timeoutsToward are those of d's exchanges.
func (s *Sidecar) timeoutsToward(d mesh.Destination) exchange.Timeouts {
	u := upstreamFor(s.inForce.Load(), d)
	if u == nil {
		return exchange.DefaultTimeouts()
	}
	return exchangeTimeouts(u.Timeouts)
}

// connectTimeoutToward is that of d's hosts, 0: the default.
func (s *Sidecar) connectTimeoutToward(d mesh.Destination) time.Duration {
	if u := upstreamFor(s.inForce.Load(), d); u != nil {
		return connectTimeout(u.Timeouts)
	}
	return 0
}

// upstreamFor returns the upstream that is d, or else one of d's service: a captured
// connection may go to a cluster or port of it that has no listener. Nil: there is none.
func upstreamFor(cfg *config.Sidecar, d mesh.Destination) *config.Upstream {
	var of *config.Upstream
	for i := range cfg.Upstreams {
		switch u := &cfg.Upstreams[i]; {
		case u.Destination() == d:
			return u
		case u.Service == d.Service && (of == nil || u.Port == d.Port && of.Port != d.Port):
			of = u
		}
	}
	return of
}
