package interception

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Interception is the sidecar's side of what [Attach] put in place. It is safe
// for concurrent use.
type Interception struct {
	name     string
	pins     directory
	settings bpfSettings
	claim    *os.File // locked; nil before Claim
	sources  *sources

	sockets  *ebpf.Map // the sidecar's listening sockets
	asked    *ebpf.Map // original destinations by the program's address
	inbound  *ebpf.Map // ports of the program whose connections come to the sidecar
	dials    *ebpf.Map // our connections to the program that are being made
	callers  *ebpf.Map // for whom they are
	counters *ebpf.Map

	accelerating atomic.Bool // what this process last wrote into acceleration
	acceleration *ebpf.Map   // whether the hooks prepare the program's sockets
	accelerated  *ebpf.Map   // both ends of connections
	flows        *ebpf.Map   // what each end has sent
	caughtUp     *ebpf.Map   // what we have read
}

// ErrNotAttached means that there are no pins of that name.
var ErrNotAttached = errors.New("not attached: run isthmus intercept attach as root")

// Open takes the pinned maps that belong to the caller. It needs no privilege
// since Linux 6.0, and CAP_BPF before. An empty base is [DefaultDirectory].
func Open(base, name string) (*Interception, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("open interception: name %q: use lower-case letters, digits and dashes", name)
	}
	d := directoryOf(base, name)
	i := &Interception{name: name, pins: d, sources: newSources()}
	var current *ebpf.Map
	for _, m := range []struct {
		name     string
		readOnly bool
		to       **ebpf.Map
	}{
		{bpfMapCurrent, true, &current},
		{bpfMapCounters, true, &i.counters},
		{bpfMapInboundPorts, true, &i.inbound},
		{bpfMapSidecarSockets, false, &i.sockets},
		{bpfMapAskedByPeer, false, &i.asked},
		{bpfMapOwnDials, false, &i.dials},
		{bpfMapCallers, false, &i.callers},
		{bpfMapAcceleration, false, &i.acceleration},
		{bpfMapAcceleratedSockets, false, &i.accelerated},
		{bpfMapFlows, false, &i.flows},
		{bpfMapCaughtUp, false, &i.caughtUp},
	} {
		pinned, err := ebpf.LoadPinnedMap(d.pinned(m.name), &ebpf.LoadPinOptions{ReadOnly: m.readOnly})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open interception %s: %w", name, openError(err, d.pinned(m.name))), i.Close())
		}
		*m.to = pinned
		if m.to != &current {
			continue
		}
		err = errors.Join(current.Lookup(uint32(0), &i.settings), current.Close())
		if err != nil {
			return nil, fmt.Errorf("open interception %s: read settings: %w", name, err)
		}
		if i.settings.Layout != layout {
			return nil, fmt.Errorf("open interception %s: the pins have layout %d and this program wants %d: run isthmus intercept attach of this version", name, i.settings.Layout, layout)
		}
	}
	return i, nil
}

// Claim says that a sidecar runs here, until Close or the end of the process. It
// fails when another one has said so; [Detach] leaves alone what is claimed.
func (i *Interception) Claim() error {
	unlock, err := lock(string(i.pins)) // against Attach, which looks for a claim, and Detach
	if err != nil {
		return fmt.Errorf("claim interception %s: %w", i.name, err)
	}
	defer unlock()
	i.claim, err = i.pins.claim()
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("interception %s is another sidecar's: give this one an interception.name of its own", i.name)
	case err != nil:
		return fmt.Errorf("claim interception %s: %w", i.name, err)
	}
	// A sidecar that was killed in a dial has left its pair, which would pass on.
	var pair bpfPair
	var whose uint8
	for entries := i.dials.Iterate(); entries.Next(&pair, &whose); {
		if whose == dialSidecar {
			_ = i.dials.Delete(pair)
		}
	}
	return nil
}

// claim says that a sidecar runs with the pins, until the file is closed;
// unix.EWOULDBLOCK: one does. The directory is locked.
func (d directory) claim() (*os.File, error) {
	f, err := os.Open(d.maps())
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// claimed reports whether a sidecar runs with the pins. The directory is locked.
func (d directory) claimed() bool {
	f, err := d.claim()
	if err == nil {
		f.Close()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

func openError(err error, path string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", path, ErrNotAttached)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: it is not user %d's (attach with that user), or the kernel is older than 6.0 and wants CAP_BPF", path, err, os.Getuid())
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Close lets go of the maps. What is attached stays, and so do sockets that are
// still open.
func (i *Interception) Close() error {
	var faults []error
	if i.claim != nil {
		faults = append(faults, i.claim.Close())
	}
	for _, m := range []*ebpf.Map{i.sockets, i.asked, i.inbound, i.dials, i.callers, i.counters, i.acceleration, i.accelerated, i.flows, i.caughtUp} {
		faults = append(faults, m.Close()) // of nil: nothing
	}
	return errors.Join(faults...)
}

// Differs reports in what respects that its sidecar cares about what is attached is
// not cfg; nil: it is.
func (i *Interception) Differs(cfg Config) error {
	cfg = cfg.withDefaults()
	var faults []error
	differs := func(what string, attached, wanted any) {
		if fmt.Sprint(attached) != fmt.Sprint(wanted) {
			faults = append(faults, fmt.Errorf("%s is %v and not %v", what, attached, wanted))
		}
	}
	path, cgroup, err := resolveCgroup(cfg.Cgroup)
	if err != nil {
		return err
	}
	if cgroup != i.settings.Cgroup {
		faults = append(faults, fmt.Errorf("its cgroup is another one than %s is now", path))
	}
	onFailure := FailClosed
	if i.settings.Open != 0 {
		onFailure = FailOpen
	}
	differs("onFailure", onFailure, cfg.OnFailure)
	differs("the outbound port", i.settings.OutboundPort, cfg.OutboundPort)
	differs("the DNS port", i.settings.DnsPort, cfg.DNSPort)
	inbound, err := i.Inbound()
	if err != nil {
		return err
	}
	differs("the program's steered port", inbound, slices.Sorted(slices.Values(cfg.Inbound)))
	if len(faults) > 0 {
		return fmt.Errorf("what is attached as %s is not what is configured: %w: run isthmus intercept attach again as root", i.name, errors.Join(faults...))
	}
	return nil
}

// Inbound returns the ports of the program whose connections come to the sidecar,
// sorted.
func (i *Interception) Inbound() ([]uint16, error) {
	var ports []uint16
	var port uint16
	var one uint8
	entries := i.inbound.Iterate()
	for entries.Next(&port, &one) {
		ports = append(ports, port)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read inbound ports of interception %s: %w", i.name, err)
	}
	slices.Sort(ports)
	return ports, nil
}

// OriginalDestination returns what the program asked for when it made the
// connection that the sidecar accepted as c; false if c was not captured but
// made to the sidecar itself. It answers once per connection, so that the next
// one from the same port cannot be taken for it.
func (i *Interception) OriginalDestination(c net.Conn) (netip.AddrPort, bool) {
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	key := endpointOf(peer.AddrPort())
	var asked bpfEndpoint
	if err := i.asked.Lookup(key, &asked); err != nil {
		return netip.AddrPort{}, false
	}
	// Its loss would only keep the entry until the map is full.
	_ = i.asked.Delete(key)
	return asked.addrPort(), true
}
