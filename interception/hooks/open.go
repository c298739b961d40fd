package hooks

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Handle is the sidecar's side of what [Attach] put in place: the pinned maps that
// belong to its user. It is safe for concurrent use.
type Handle struct {
	name     string
	pins     directory
	settings bpf.KernelSettings
	lock     claim
	sources  *sources

	sockets  *ebpf.Map // the sidecar's listening sockets
	asked    *ebpf.Map // original destinations by the program's address
	servers  *ebpf.Map // DNS servers that were asked by UDP, by the program's address
	inbound  *ebpf.Map // ports of the program whose connections come to the sidecar
	dials    *ebpf.Map // our connections to the program that are being made
	callers  *ebpf.Map // for whom they are
	counters *ebpf.Map
}

// Open opens the pinned maps. It needs no privilege since Linux 6.0, and CAP_BPF
// before. An empty base is [DefaultDirectory].
func Open(base, name string) (*Handle, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("open interception: %w", err)
	}
	d := directoryOf(base, name)
	h := &Handle{name: name, pins: d, sources: newSources()}
	if err := h.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open interception %s: %w", name, err), h.Close())
	}
	return h, nil
}

func (h *Handle) open() error {
	current, err := bpf.OpenMap(h.Maps(), bpf.KernelMapCurrent, true)
	if err != nil {
		return err
	}
	if err := errors.Join(current.Lookup(uint32(0), &h.settings), current.Close()); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if h.settings.Layout != bpf.Layout {
		return fmt.Errorf("the pins have layout %d and this program wants %d: run isthmus intercept attach of this version", h.settings.Layout, bpf.Layout)
	}
	for _, m := range []struct {
		name     string
		readOnly bool
		to       **ebpf.Map
	}{
		{bpf.KernelMapCounters, true, &h.counters},
		{bpf.KernelMapDnsServerByPeer, true, &h.servers},
		{bpf.KernelMapInboundPorts, true, &h.inbound},
		{bpf.KernelMapSidecarSockets, false, &h.sockets},
		{bpf.KernelMapAskedByPeer, false, &h.asked},
		{bpf.KernelMapOwnDials, false, &h.dials},
		{bpf.KernelMapCallers, false, &h.callers},
	} {
		if *m.to, err = bpf.OpenMap(h.Maps(), m.name, m.readOnly); err != nil {
			return err
		}
	}
	return nil
}

// Maps is the directory of the pinned maps.
func (h *Handle) Maps() string { return h.pins.maps() }

// Close lets go of the maps and ends the claim. What is attached stays, and so do
// sockets that are still open.
func (h *Handle) Close() error {
	faults := []error{h.lock.close()}
	for _, m := range []*ebpf.Map{h.sockets, h.asked, h.servers, h.inbound, h.dials, h.callers, h.counters} {
		faults = append(faults, m.Close()) // a nil map has nothing to close
	}
	return errors.Join(faults...)
}

// Differs compares what is attached with cfg, in what its sidecar depends on. The
// error names each difference; nil means that there is none.
func (h *Handle) Differs(cfg Config) error {
	cfg = cfg.withDefaults()
	var faults []error
	differs := func(what string, attached, wanted any) {
		if fmt.Sprint(attached) != fmt.Sprint(wanted) {
			faults = append(faults, fmt.Errorf("%s is %v and not %v", what, attached, wanted))
		}
	}
	path, cgroup, err := ResolveCgroup(cfg.Cgroup)
	if err != nil {
		return err
	}
	if cgroup != h.settings.Cgroup {
		faults = append(faults, fmt.Errorf("its cgroup is another one than %s is now", path))
	}
	onFailure := FailClosed
	if h.settings.Open != 0 {
		onFailure = FailOpen
	}
	differs("onFailure", onFailure, cfg.OnFailure)
	differs("the outbound port", h.settings.OutboundPort, cfg.OutboundPort)
	differs("the DNS port", h.settings.DnsPort, cfg.DNSPort)
	inbound, err := h.inboundPorts()
	if err != nil {
		return err
	}
	differs("the program's steered port", inbound, slices.Sorted(slices.Values(cfg.Inbound)))
	if len(faults) > 0 {
		return fmt.Errorf("what is attached as %s is not what is configured: %w: run isthmus intercept attach again as root", h.name, errors.Join(faults...))
	}
	return nil
}

// inboundPorts are the ports of the program whose connections come to the sidecar,
// sorted.
func (h *Handle) inboundPorts() ([]uint16, error) {
	var ports []uint16
	var port uint16
	var one uint8
	entries := h.inbound.Iterate()
	for entries.Next(&port, &one) {
		ports = append(ports, port)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read inbound ports of interception %s: %w", h.name, err)
	}
	slices.Sort(ports)
	return ports, nil
}

// OriginalDestination returns what the program asked for when it made the
// connection that the sidecar accepted as c; false if c was not captured but
// made to the sidecar itself. It answers once per connection, so that the next
// connection from the same port does not get the same answer.
func (h *Handle) OriginalDestination(c net.Conn) (netip.AddrPort, bool) {
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	key := bpf.EndpointOf(peer.AddrPort())
	var asked bpf.KernelEndpoint
	if err := h.asked.Lookup(key, &asked); err != nil {
		return netip.AddrPort{}, false
	}
	// If this fails the entry only stays until the map is full.
	_ = h.asked.Delete(key)
	return asked.AddrPort(), true
}

// OriginalServer returns the DNS server that the program asked with a datagram which the
// sidecar received from this address; false if it was sent to the sidecar itself. A
// socket that asked several servers is known by the last one.
func (h *Handle) OriginalServer(from netip.AddrPort) (netip.AddrPort, bool) {
	var server bpf.KernelEndpoint
	if err := h.servers.Lookup(bpf.EndpointOf(from), &server); err != nil {
		return netip.AddrPort{}, false
	}
	return server.AddrPort(), true
}
