package federation

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// createList starts memberlist, alone: exchange joins it to others.
func (f *Federation) createList() error {
	f.mu.Lock()
	var keys [][]byte
	for _, k := range f.ring {
		keys = append(keys, k.Key)
	}
	ring, err := memberlist.NewKeyring(keys, f.primary.Key)
	f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	d := delegate{f}
	c := memberlist.DefaultWANConfig()
	c.Name = nodeName(f.cfg.Self)
	c.Transport = f.transport
	c.BindPort, c.AdvertisePort = gossipPort, gossipPort
	c.RequireNodeNames = true
	c.Keyring = ring
	c.Delegate, c.Events, c.Alive = d, d, d
	c.Logger = log.New(logWriter{f.log}, "", 0)
	c.EnableCompression = false // packets are small
	c.DNSConfigPath = ""
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMax
	c.GossipInterval, c.GossipNodes, c.GossipToTheDeadTime = gossipInterval, gossipNodes, gossipToTheDead
	c.PushPullInterval = pushPullInterval
	c.TCPTimeout = gossipStreamTimeout
	c.UDPBufferSize = packetBytes - 1 // the tag
	list, err := memberlist.Create(c)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.listKeys = list, ring
	return nil
}

// announce gossips what NodeMeta now says. It must not be called with f.mu held.
func (f *Federation) announce() {
	f.mu.Lock()
	list := f.list
	f.mu.Unlock()
	if list == nil {
		return
	}
	// The message is queued at once; the wait, which cannot be left out, is for
	// its last copy to be sent.
	_ = list.UpdateNode(time.Millisecond)
}

// mergeKeys adds what another gateway or the state file holds.
func (f *Federation) mergeKeys(more keyring) keyring {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.ring.union(more)
	if u.equal(f.ring) {
		return u
	}
	if len(f.ring) == 0 || f.ring[0].compare(u[0]) != 0 {
		f.ringSince = time.Now()
	}
	old := f.ring
	f.ring = u
	f.dirty.keys = true
	kick(f.storeKick)
	kick(f.stepKick)
	if f.listKeys != nil {
		for _, k := range u {
			_ = f.listKeys.AddKey(k.Key) // its length was checked
		}
	}
	f.chooseKeyLocked(time.Now())
	if f.listKeys != nil {
		for _, k := range old {
			if !u.has(k.Key) && k.compare(f.primary) != 0 {
				_ = f.listKeys.RemoveKey(k.Key) // fails for the primary only
			}
		}
	}
	return u
}

// chooseKeyLocked makes the newest key the one that packets are encrypted with,
// once all had the time to learn it. A key of ours that was only waiting for a
// better one gives way at once: nobody else need know it.
func (f *Federation) chooseKeyLocked(now time.Time) {
	if len(f.ring) == 0 || f.ring[0].compare(f.primary) == 0 {
		return
	}
	if f.primary.Created != 0 && now.Sub(f.ringSince) < keySettle {
		return
	}
	f.primary = f.ring[0]
	if f.listKeys != nil {
		if err := f.listKeys.UseKey(f.primary.Key); err != nil {
			f.log.Error("gossip key not changed", "err", err)
			return
		}
		for _, k := range f.listKeys.GetKeys() {
			if !f.ring.has(k) {
				_ = f.listKeys.RemoveKey(k)
			}
		}
	}
	f.log.Info("gossip key changed")
}

// delegate is what memberlist calls. It may hold its own lock then, so nothing
// here calls memberlist, and nobody calls memberlist with f.mu held.
type delegate struct{ f *Federation }

// NodeMeta implements [memberlist.Delegate].
func (d delegate) NodeMeta(limit int) []byte {
	f := d.f
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.own.Head()
	m := nodeMeta{Leaving: f.leaving, Version: h.Version, Digest: h.Digest, Advertise: f.cfg.Advertise}
	b := m.encode()
	return b[:min(len(b), limit)] // New has checked that it fits
}

// NotifyAlive implements [memberlist.AliveDelegate]: who is not a gateway with a
// readable name and its number is no member.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	id, err := parseNodeName(n.Name)
	if err != nil {
		return err
	}
	if !nodeAddr(id).Equal(n.Addr) || n.Port != gossipPort {
		return errors.New("not the address that belongs to the name")
	}
	if _, err := decodeMeta(n.Meta); err != nil && !errors.Is(err, errMetaVersion) {
		return err
	}
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	if d.f.members[id] == nil && len(d.f.members) >= maxGateways {
		return fmt.Errorf("more than %d gateways", maxGateways)
	}
	return nil
}

// NotifyJoin implements [memberlist.EventDelegate].
func (d delegate) NotifyJoin(n *memberlist.Node) { d.f.setMember(n, true) }

// NotifyUpdate implements [memberlist.EventDelegate].
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.f.setMember(n, true) }

// NotifyLeave implements [memberlist.EventDelegate].
func (d delegate) NotifyLeave(n *memberlist.Node) { d.f.setMember(n, false) }

// NotifyMsg implements [memberlist.Delegate]; there are no other messages.
func (d delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements [memberlist.Delegate].
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements [memberlist.Delegate].
func (d delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements [memberlist.Delegate].
func (d delegate) MergeRemoteState([]byte, bool) {}

// setMember keeps what gossip says of a gateway.
func (f *Federation) setMember(n *memberlist.Node, alive bool) {
	id, err := parseNodeName(n.Name)
	if err != nil || id == f.cfg.Self {
		return
	}
	meta, err := decodeMeta(n.Meta)
	known := err == nil
	f.mu.Lock()
	defer f.mu.Unlock()
	defer kick(f.stepKick)
	m := f.members[id]
	if m == nil {
		if !alive {
			return // forgotten before
		}
		m = &member{}
		f.members[id] = m
	}
	if alive && !m.alive {
		m.since, m.hurry = time.Now(), true
	}
	if alive != m.alive {
		f.log.Info("gossip", "peer", id.String(), "alive", alive, "leaving", meta.Leaving)
	}
	m.alive, m.known, m.meta = alive, known, meta
	f.viewDirty = true
	if !alive || !known {
		return
	}
	if r := f.remembered[id]; meta.Advertise != "" && r.Advertise != meta.Advertise {
		r.Advertise, r.Seen = meta.Advertise, time.Now()
		f.rememberLocked(id, r)
	}
	f.hearLocked(catalog.Head{Origin: id, Version: meta.Version, Digest: meta.Digest}, id)
}

// metLocked notes what a gateway has said of itself over a tunnel.
func (f *Federation) metLocked(id mesh.GatewayID, meshAddress string) {
	if r := f.remembered[id]; r.MeshAddress != meshAddress {
		r.MeshAddress, r.Seen = meshAddress, time.Now()
		f.rememberLocked(id, r)
	}
}

func (f *Federation) rememberLocked(id mesh.GatewayID, r savedGateway) {
	f.remembered[id] = r
	f.dirty.gateways[id], f.viewDirty = true, true
	kick(f.storeKick)
}

// logWriter takes memberlist's log lines. All are details to us: what changes in
// the end is logged where it is kept.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		w.log.Debug("memberlist", "line", strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

var (
	_ memberlist.Delegate           = delegate{}
	_ memberlist.EventDelegate      = delegate{}
	_ memberlist.AliveDelegate      = delegate{}
	_ memberlist.NodeAwareTransport = (*transport)(nil)
)
