package federation

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// packetTag is the first byte of every gossip packet on the tunnel's socket. Its
// two upper bits are zero, which no QUIC packet's are (RFC 9000, section 17).
const packetTag = 0x01

// gossipPort is the port in memberlist's addresses. Like the addresses it means
// nothing: see [nodeAddr].
const gossipPort = 7443

// nodeName is a gateway's name in memberlist. The cluster has no dots.
func nodeName(id mesh.GatewayID) string { return string(id.Cluster) + "." + string(id.Name) }

func parseNodeName(s string) (mesh.GatewayID, error) {
	cluster, name, ok := strings.Cut(s, ".")
	if !ok {
		return mesh.GatewayID{}, errors.New("node name is not cluster.gateway")
	}
	return mesh.ParseGatewayID(cluster + "/" + name)
}

// nodeAddr is a gateway's address in memberlist, a number made from its name.
// memberlist takes a second address under one name for a conflict and keeps the
// first; gateways change theirs when they restart elsewhere, and where they are
// is what their tunnels say.
func nodeAddr(id mesh.GatewayID) net.IP {
	sum := sha256.Sum256([]byte(nodeName(id)))
	ip := net.IP(sum[:net.IPv6len])
	ip[0] = 0xfd // unique local, RFC 4193
	return ip
}

// joinAddress is what memberlist.Join takes.
func joinAddress(id mesh.GatewayID) string {
	return fmt.Sprintf("%s/[%s]:%d", nodeName(id), nodeAddr(id), gossipPort)
}

// transport carries memberlist's packets beside the tunnel's QUIC packets and its
// streams in tunnels. It implements [memberlist.NodeAwareTransport].
type transport struct {
	self    mesh.GatewayID
	tunnel  *tunnel.Node
	metrics *metrics
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{} // closed when memberlist is shut down
	once    sync.Once

	addrs state.Store[map[mesh.GatewayID][]net.Addr] // where packets to a gateway go
}

func newTransport(self mesh.GatewayID, e *tunnel.Node, m *metrics) *transport {
	return &transport{
		self: self, tunnel: e, metrics: m,
		packets: make(chan *memberlist.Packet, maxQueuedPackets),
		streams: make(chan net.Conn),
		done:    make(chan struct{}),
	}
}

// readPackets hands packets to memberlist until ctx ends. What memberlist does
// not take in time is dropped: gossip repeats itself.
func (t *transport) readPackets(ctx context.Context) {
	b := make([]byte, packetBytes+1)
	for {
		n, from, err := t.tunnel.ReadPacket(ctx, b)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			state.Pause(ctx, 10*time.Millisecond) // not seen yet; but no error may become a busy loop
			continue
		}
		if n < 2 || n > packetBytes || b[0] != packetTag {
			t.metrics.packetsDropped.Inc()
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), b[1:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.packets <- p:
			t.metrics.packetsIn.Inc()
		default:
			t.metrics.packetsDropped.Inc()
		}
	}
}

// setAddrs replaces where packets to each gateway go.
func (t *transport) setAddrs(all map[mesh.GatewayID]core.PacketAddress) {
	addrs := make(map[mesh.GatewayID][]net.Addr, len(all))
	for id, a := range all {
		addrs[id] = packetAddrs(a.Tunnel, a.Advertise)
	}
	t.addrs.Set(addrs)
}

// packetAddrs returns where a gateway's packets go: to where its tunnel's come
// from and, when that differs, to the address it advertises if that needs no
// resolving. Behind an address translation only the first works; when the
// tunnel came from an extra socket of the peer, only the second.
func packetAddrs(tunnelAddr, advertise string) []net.Addr {
	var addrs []net.Addr
	var first netip.AddrPort
	if a, err := netip.ParseAddrPort(tunnelAddr); err == nil {
		first = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		addrs = append(addrs, net.UDPAddrFromAddrPort(first))
	}
	if a, err := netip.ParseAddrPort(advertise); err == nil && a != first {
		addrs = append(addrs, net.UDPAddrFromAddrPort(a))
	}
	return addrs
}

// FinalAdvertiseAddr is part of [memberlist.Transport].
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return nodeAddr(t.self), gossipPort, nil
}

// WriteToAddress sends a packet. A gateway whose address is not known is one that
// did not get it: an error would make memberlist give up the probe that finds out.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	id, err := parseNodeName(a.Name)
	if err != nil {
		return now, nil
	}
	addrs := t.addrs.Load()[id]
	if len(addrs) == 0 {
		return now, nil
	}
	p := make([]byte, 0, 1+len(b))
	p = append(append(p, packetTag), b...)
	for _, addr := range addrs {
		if _, err := t.tunnel.WritePacket(p, addr); err == nil {
			t.metrics.packetsOut.Inc()
		}
	}
	return now, nil
}

// DialAddressTimeout opens a stream to a gateway's memberlist.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	id, err := parseNodeName(a.Name)
	if err != nil {
		return nil, fmt.Errorf("gossip to %q: %w", a.Name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s, err := t.tunnel.Open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("gossip to %s: %w", id, err)
	}
	c, err := connectGossip(s, timeout)
	if err != nil {
		_ = s.Abort()
		return nil, fmt.Errorf("gossip to %s: %w", id, err)
	}
	return c, nil
}

func connectGossip(s *tunnel.Stream, timeout time.Duration) (net.Conn, error) {
	if err := s.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(s, "CONNECT gossip HTTP/1.1\r\nHost: gossip\r\n\r\n"); err != nil {
		return nil, err
	}
	// Only the head is bounded: memberlist bounds what follows.
	head := &io.LimitedReader{R: s, N: 16 << 10}
	r := bufio.NewReader(head)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // the answer to CONNECT has none
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", resp.Status)
	}
	left, err := r.Peek(r.Buffered())
	if err != nil {
		return nil, err
	}
	return &prefixedConn{Conn: s, prefix: append([]byte(nil), left...)}, nil
}

// prefixedConn is a conn of which some bytes have been read already.
type prefixedConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixedConn) Read(b []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(b, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// serve hands a stream to memberlist, which closes it. It reports whether it did.
func (t *transport) serve(ctx context.Context, c net.Conn) bool {
	select {
	case t.streams <- c:
		return true
	case <-t.done:
	case <-ctx.Done():
	}
	return false
}

// PacketCh is part of [memberlist.Transport].
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is part of [memberlist.Transport].
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo is part of [memberlist.Transport]; memberlist uses WriteToAddress.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout is part of [memberlist.Transport]; memberlist uses DialAddressTimeout.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// Shutdown is part of [memberlist.Transport].
func (t *transport) Shutdown() error {
	t.once.Do(func() { close(t.done) })
	return nil
}
