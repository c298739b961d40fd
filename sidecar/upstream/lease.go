package upstream

import (
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// Lease is what an attempt runs on: today a connection that nobody else uses
// meanwhile. It needs one [Lease.Done], and then [Lease.Return], Close or Abort.
type Lease struct {
	*Conn
	host     *Host
	attempts *Attempts
	done     bool
	stream   *streams.Stream
}

// Stream returns the stream of a shared connection that the lease is, nil for one that is a
// connection of its own.
func (l *Lease) Stream() *streams.Stream { return l.stream }

// Addr returns the address that was dialled, host:port.
func (l *Lease) Addr() string { return l.host.key.addr }

// Outcome is how an attempt ended.
type Outcome uint8

// The outcomes.
const (
	// Answered: the exchange is complete, whatever the application said.
	Answered Outcome = iota
	// GatewayError: the answer was 502, 503 or 504, or did not come in time.
	GatewayError
	// Broken: no connection came about, or it broke before the exchange was
	// complete.
	Broken
	// Abandoned: the caller went away, which says nothing about the host.
	Abandoned
)

// Done says how the attempt ended; only the first call counts. latency is the time
// to the answer, 0 when there is nothing to learn from it (TCP). The attempts learn
// whom to ask next: after what broke behind a gateway the gateway may be asked
// again, for another instance.
func (l *Lease) Done(o Outcome, latency time.Duration) {
	if !l.done {
		l.done = true
		l.host.done(l.host.service.shared.now(), l.attempts, l.Conn, o, latency)
	}
}

// Return gives back a connection whose exchange is complete and that may carry
// another: it is kept, or closed when the host is gone, when there are enough, or
// when who answers may no longer do so. Deadlines that the caller has set stay: it
// clears them before.
func (l *Lease) Return() { l.host.put(l.Conn) }

// Superseded reports whether it is no use to wait for an answer much longer: the
// control plane has taken the host away or calls it unready, or connections to it
// fail, and somebody who was not asked is in service. A process that is frozen keeps
// its connections: nothing but this tells of it.
func (l *Lease) Superseded() bool { return l.host.superseded(l.attempts) }

// pathLost reports whether the attempt's gateway is out of service: then what was lost
// is the path to it.
func (l *Lease) pathLost() bool { return l.host.key.gateway && l.host.doubtful.Load() }
