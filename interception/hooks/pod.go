package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Pod is what [AttachPod] puts in place: hooks that capture all programs of a pod for
// the sidecar that runs in it, without privilege and without the pins.
type Pod struct {
	Name      string // the pod's UID
	Directory string // on a bpffs, with a directory per pod
	Cgroup    string // the pod's, absolute; every container is below it
	Network   *os.File
	UID       uint32 // the sidecar's user, as the host sees it

	Captured                           []netip.Prefix
	OutboundPort, DNSPort, InboundPort uint16   // where the sidecar listens
	Excluded                           []uint16 // ports of the pod whose callers pass
	Node                               bool     // callers from an address of the node pass
	OnFailure                          OnFailure

	Log *slog.Logger // nil: what is logged is discarded
}

// ErrOlder means that a pod has hooks whose maps are of another version: they work on with
// the sidecar that they belong to, until the pod ends.
var ErrOlder = errors.New("the pod has hooks of another version of this program, which stay until it is restarted")

// nodeAddresses is the pin of the map that all pods of a node share.
const nodeAddresses = "node-addresses"

// podEntries bounds what waits to be accepted in one pod: 0.4 MB.
const podEntries = 4096

// AttachPod puts the hooks of a pod in place, or brings what is in place to this
// configuration and version, and finds the sockets of a sidecar that listens already.
// Inbound comes first: the sidecar finds out by its own outbound connection that everything
// is there. When the first call fails, nothing is left.
func AttachPod(cfg Pod) (err error) {
	fault := func(err error) error { return fmt.Errorf("capture pod %s: %w", cfg.Name, err) }
	if err := checkName(cfg.Name); err != nil {
		return fault(err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := rlimit.RemoveMemlock(); err != nil { // counts for BPF before Linux 5.11
		return fault(err)
	}
	id, err := inode(cfg.Cgroup)
	if err != nil {
		return fault(err)
	}
	d := directoryOf(cfg.Directory, cfg.Name)
	unlock, err := d.prepare(0, 0)
	if err != nil {
		return fault(err)
	}
	defer unlock()
	before, err := os.ReadDir(d.links())
	if err != nil {
		return fault(err)
	}
	if err := d.attachPod(cfg, id); err != nil {
		if len(before) == 0 {
			err = errors.Join(err, d.remove())
		}
		if missing := privileged(false); missing != nil {
			err = missing
		}
		return fault(err)
	}
	return nil
}

func (d directory) attachPod(cfg Pod, cgroup uint64) error {
	if err := d.sameLayout(); err != nil {
		return err
	}
	spec, err := parse()
	if err != nil {
		return err
	}
	podSized(spec)
	shared, err := openNodeAddresses(filepath.Dir(string(d)), spec)
	if err != nil {
		return err
	}
	defer func() { _ = shared.Close() }()
	objects, err := load(spec, d, map[string]*ebpf.Map{bpf.KernelMapNodeAddresses: shared})
	if err != nil {
		return err
	}
	defer func() { _ = objects.Close() }() // the kernel holds what is pinned
	settings := bpf.KernelSettings{
		Cgroup: cgroup, Layout: bpf.Layout, OutboundPort: cfg.OutboundPort, DnsPort: cfg.DNSPort,
		Pod: 1, InboundPort: cfg.InboundPort, SidecarUid: cfg.UID,
	}
	if cfg.OnFailure == FailOpen {
		settings.Open = 1
	}
	if cfg.Node {
		settings.Node = 1
	}
	if err := fill(&objects.KernelMaps, cfg.Captured, nil, cfg.Excluded, settings); err != nil {
		return err
	}
	if err := d.hookInbound(objects.IsthmusSkLookup, cfg.Network, cfg.Log); err != nil {
		return err
	}
	if err := d.hookCgroup(append(podOnlyHooks(objects), cgroupHooks(objects)...), cfg.Cgroup, cgroup, cfg.Log); err != nil {
		return err
	}
	return adoptSockets(objects.SidecarSockets, cfg)
}

// podSized makes the maps small that a pod does not use, and those that hold what waits.
func podSized(spec *ebpf.CollectionSpec) {
	spec.Maps[bpf.KernelMapAskedByPeer].MaxEntries = podEntries
	for _, unused := range []string{bpf.KernelMapDnsServerByPeer, bpf.KernelMapInboundPorts, bpf.KernelMapOwnDials, bpf.KernelMapCallers,
		bpf.KernelMapAcceleratedSockets, bpf.KernelMapFlows, bpf.KernelMapCaughtUp} {
		spec.Maps[unused].MaxEntries = 16
	}
}

// sameLayout reports maps of another version.
func (d directory) sameLayout() error {
	current, err := ebpf.LoadPinnedMap(d.pinned(bpf.KernelMapCurrent), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = current.Close() }()
	var settings bpf.KernelSettings
	if err := current.Lookup(uint32(0), &settings); err != nil || settings.Layout != bpf.Layout && settings.Layout != 0 {
		return ErrOlder // a value of another size cannot be read
	}
	return nil
}

// openNodeAddresses opens the map that all pods share, or makes it.
func openNodeAddresses(base string, spec *ebpf.CollectionSpec) (*ebpf.Map, error) {
	path := filepath.Join(base, nodeAddresses)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	of := *spec.Maps[bpf.KernelMapNodeAddresses]
	of.Pinning = ebpf.PinNone
	if m, err = ebpf.NewMap(&of); err != nil {
		return nil, fmt.Errorf("make the map of the node's addresses: %w", err)
	}
	if err := m.Pin(path); err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("pin the map of the node's addresses: %w", err)
	}
	return m, nil
}

// SetNodeAddresses replaces the addresses that pass to the ports of every pod of [PodConfig].Node.
func SetNodeAddresses(base string, addresses []netip.Addr) error {
	fault := func(err error) error { return fmt.Errorf("set the node's addresses: %w", err) }
	spec, err := parse()
	if err != nil {
		return fault(err)
	}
	if err := ensureBPFFS(base); err != nil {
		return fault(err)
	}
	m, err := openNodeAddresses(base, spec)
	if err != nil {
		return fault(err)
	}
	defer func() { _ = m.Close() }()
	want := make(map[bpf.KernelCaller]bool)
	for _, a := range addresses {
		want[bpf.KernelCaller{Ip: bpf.EndpointOf(netip.AddrPortFrom(a, 0)).Ip}] = true
	}
	if err := replace(m, want); err != nil {
		return fault(err)
	}
	return nil
}

// RemoveNodeAddresses removes the map that all pods share, and the directory, once no pod has hooks
// any more: nothing of this program is left on the node then.
func RemoveNodeAddresses(base string) error {
	names, err := Attached(base)
	if err != nil || len(names) > 0 {
		return err
	}
	if err := os.Remove(filepath.Join(base, nodeAddresses)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the map of the node's addresses: %w", err)
	}
	_ = os.Remove(base) // unless there is something else
	return nil
}
