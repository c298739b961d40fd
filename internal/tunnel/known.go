package tunnel

import (
	"net"

	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// rememberHostsLocked tells halfOpen where gateways are: where the peers come from, and
// where targets were dialled. It is called when one of these has changed. mu is held.
func (t *table) rememberHostsLocked() {
	hosts := make(map[limit.Source]struct{}, len(t.peers)+len(t.targets.running))
	for _, p := range t.peers {
		if p.host != (limit.Source{}) && !p.forgotten {
			hosts[p.host] = struct{}{}
		}
	}
	for _, target := range t.targets.running {
		if target.addr != nil {
			hosts[limit.SourceOf(target.addr)] = struct{}{}
		}
	}
	t.halfOpen.hosts.Store(&hosts)
}

// dialledTo remembers where a target was dialled.
func (t *table) dialledTo(target *target, addr net.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	target.addr = addr
	t.rememberHostsLocked()
}
