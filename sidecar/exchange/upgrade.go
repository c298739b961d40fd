package exchange

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// upgrade makes the connection a relay of another protocol, when the client asked
// for it.
func (x *exchange) upgrade() outcome {
	if x.req.Upgrade() == nil || x.resp.Upgraded() == nil {
		return x.reply(inner(502, upgradeFailed, x.lease.Addr(), "switched to another protocol without being asked"))
	}
	if a := x.s.Admission; a != nil {
		if !a.admitUpgrade(x.session) {
			return x.reply(*denied(a.policy.Load(), &x.question))
		}
		defer a.Leave(x.client)
	}
	x.answeredAt, x.status = time.Now(), 101
	x.out = x.end.appendHead(x.out[:0], &x.resp, http1.ResponseRewrite{Via: x.s.Name}, false)
	x.extendWriteDeadline(time.Now())
	if _, err := x.end.Write(x.out); err != nil {
		return x.abort()
	}
	x.lease.Done(upstream.Answered, x.latency())
	// The request comes first in whole, then the other protocol (RFC 9110 §7.8).
	if !x.up.sentWhole(false) {
		return aborted
	}
	_ = x.client.Accepted.SetDeadline(time.Time{})
	_ = x.lease.SetDeadline(time.Time{})
	early := slices.Concat(x.in[x.from:x.to], x.up.leftover())
	late := slices.Clone(x.back[x.headEnd:x.filled])
	x.from, x.to = 0, 0
	x.back, x.out = nil, nil // the relay brings its own
	client, host := relay.WithPrefix(x.end.relayed(), early), relay.WithPrefix(x.host.relayed(), late)
	x.s.Relays.Add(x.client, x.lease, nil)
	stats, err := relay.Copy(x.ctx, client, host, x.s.Timeouts.Relay)
	x.s.Relays.Remove(x.client)
	x.moved = stats.BToA
	x.s.Metrics.Relayed(stats)
	if err != nil {
		x.reason, x.detail = "broken_off", err.Error()
	}
	x.client.setHost(nil)
	_ = x.lease.Close() // most often a second time
	x.lease = nil
	return upgraded
}
