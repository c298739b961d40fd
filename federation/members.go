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

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// createList starts memberlist, alone: catalogSync joins it to others.
func (f *Federation) createList() error {
	d := delegate{f}
	c := memberlist.DefaultWANConfig()
	c.Name = gossip.NodeName(f.cfg.Self)
	c.Transport = f.transport
	c.BindPort, c.AdvertisePort = gossip.Port, gossip.Port
	c.RequireNodeNames = true
	c.Delegate, c.Events, c.Alive = d, d, d
	c.Logger = log.New(logWriter{f.log}, "", 0)
	c.EnableCompression = false // packets are small
	c.DNSConfigPath = ""
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, maxSuspicion
	c.GossipInterval, c.GossipNodes, c.GossipToTheDeadTime = gossipInterval, gossipNodes, gossipToTheDead
	c.PushPullInterval = pushPullInterval
	c.TCPTimeout = gossipStreamTimeout
	c.UDPBufferSize = tunnel.MaxPacket - checksumBytes
	list, err := memberlist.Create(c)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	f.list.Store(list)
	return nil
}

// announce gossips what NodeMeta now says. It must not be called with the lock of the core held.
func (f *Federation) announce() {
	f.announcing.Lock()
	defer f.announcing.Unlock()
	list := f.list.Load()
	if list == nil || f.hasEnded() {
		return
	}
	// The message is queued at once; the wait, which cannot be left out, is for
	// its last copy to be sent.
	_ = list.UpdateNode(time.Millisecond)
}

// delegate is what memberlist calls. It may hold its own lock then, so nothing
// here calls memberlist, and nobody calls memberlist with the lock of the core held.
type delegate struct{ f *Federation }

// NodeMeta implements [memberlist.Delegate].
func (d delegate) NodeMeta(limit int) []byte {
	var b []byte
	d.f.core.with(func(c *core.Core) { b = encodeMeta(c.Meta()) })
	return b[:min(len(b), limit)] // New has checked that it fits
}

// NotifyAlive implements [memberlist.AliveDelegate]: whom there is no room for is no
// member. Package gossip has checked the name.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	id, err := gossip.ParseNodeName(n.Name)
	if err != nil {
		return err
	}
	if _, err := decodeMeta(n.Meta); err != nil && !errors.Is(err, errMetaVersion) {
		return err
	}
	d.f.core.with(func(c *core.Core) { err = c.HasRoomFor(id) })
	return err
}

// NotifyJoin implements [memberlist.EventDelegate].
func (d delegate) NotifyJoin(n *memberlist.Node) { d.f.hearGossip(n, true) }

// NotifyUpdate implements [memberlist.EventDelegate].
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.f.hearGossip(n, true) }

// NotifyLeave implements [memberlist.EventDelegate].
func (d delegate) NotifyLeave(n *memberlist.Node) { d.f.hearGossip(n, false) }

// NotifyMsg implements [memberlist.Delegate]; there are no other messages.
func (d delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements [memberlist.Delegate].
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements [memberlist.Delegate].
func (d delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements [memberlist.Delegate].
func (d delegate) MergeRemoteState([]byte, bool) {}

// hearGossip tells the core what gossip says of a gateway.
func (f *Federation) hearGossip(n *memberlist.Node, alive bool) {
	id, err := gossip.ParseNodeName(n.Name)
	if err != nil || id == f.cfg.Self {
		return
	}
	meta, err := decodeMeta(n.Meta)
	f.core.apply(core.Gossip{Gateway: id, Alive: alive, Known: err == nil, Meta: meta})
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
