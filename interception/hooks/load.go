package hooks

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// parse reads the embedded object and adapts it to this kernel.
func parse() (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadKernel()
	if err != nil {
		return nil, fmt.Errorf("parse hooks: %w", err)
	}
	retval := features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval) == nil
	if err := spec.Variables[bpf.KernelVarErrnoSettable].Set(retval); err != nil {
		return nil, fmt.Errorf("parse hooks: %w", err)
	}
	return spec, nil
}

// load hands programs and maps to the kernel; the maps are adopted from d, or
// pinned there, but for those that are shared. An empty d pins nothing.
func load(spec *ebpf.CollectionSpec, d directory, shared map[string]*ebpf.Map) (*bpf.KernelObjects, error) {
	options := ebpf.CollectionOptions{MapReplacements: shared}
	if d == "" {
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinNone
		}
	} else {
		options.Maps.PinPath = d.maps()
	}
	var objects bpf.KernelObjects
	err := spec.LoadAndAssign(&objects, &options)
	var rejected *ebpf.VerifierError
	switch {
	case err == nil:
		return &objects, nil
	case errors.As(err, &rejected):
		// %+v is all that the verifier says; the error itself is one line of it.
		return nil, errors.New("the kernel's verifier rejects a hook: " + fmt.Sprintf("%+v", rejected))
	case errors.Is(err, ebpf.ErrMapIncompatible):
		return nil, fmt.Errorf("%w: the pins in %s are of another version or another program: remove them with isthmus intercept clean (established connections stay)", err, d)
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("load hooks: %w: something denies this process its capabilities, such as a filter of system calls", err)
	}
	return nil, fmt.Errorf("load hooks: %w", err)
}

// fill writes the configuration into the maps: the prefixes whose connections are captured, the
// ports of a program that are steered to its sidecar, or those of a pod that are not.
func fill(m *bpf.KernelMaps, captured []netip.Prefix, inbound, excluded []uint16, settings bpf.KernelSettings) error {
	if err := m.Current.Put(uint32(0), settings); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	prefixes := make(map[bpf.KernelPrefix]bool)
	for _, p := range captured {
		prefixes[bpf.PrefixOf(p)] = true
	}
	if err := replace(m.Captured, prefixes); err != nil {
		return fmt.Errorf("write captured prefixes: %w", err)
	}
	if err := replace(m.InboundPorts, setOf(inbound)); err != nil {
		return fmt.Errorf("write inbound ports: %w", err)
	}
	if err := replace(m.ExcludedPorts, setOf(excluded)); err != nil {
		return fmt.Errorf("write excluded ports: %w", err)
	}
	return nil
}

func setOf(ports []uint16) map[uint16]bool {
	set := make(map[uint16]bool, len(ports))
	for _, p := range ports {
		set[p] = true
	}
	return set
}

// replace makes want the keys of m. What stays is never absent meanwhile.
func replace[K comparable](m *ebpf.Map, want map[K]bool) error {
	for k := range want {
		if err := m.Put(k, uint8(1)); err != nil {
			return err
		}
	}
	var key K
	var value uint8
	var past []K
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if !want[key] {
			past = append(past, key)
		}
	}
	if err := entries.Err(); err != nil {
		return err
	}
	for _, k := range past {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

// give makes the maps that a sidecar needs the user's; what decides stays root's.
func (d directory) give(uid, gid int) error {
	for name, mode := range map[string]os.FileMode{
		bpf.KernelMapSidecarSockets:     0o600,
		bpf.KernelMapAskedByPeer:        0o600,
		bpf.KernelMapOwnDials:           0o600,
		bpf.KernelMapCallers:            0o600,
		bpf.KernelMapAcceleration:       0o600,
		bpf.KernelMapAcceleratedSockets: 0o600,
		bpf.KernelMapFlows:              0o600,
		bpf.KernelMapCaughtUp:           0o600,
		bpf.KernelMapCurrent:            0o400,
		bpf.KernelMapDnsServerByPeer:    0o400,
		bpf.KernelMapInboundPorts:       0o400,
		bpf.KernelMapExcludedPorts:      0o400,
		bpf.KernelMapCounters:           0o400,
	} {
		if err := os.Chown(d.pinned(name), uid, gid); err != nil {
			return fmt.Errorf("give pins to user %d: %w", uid, err)
		}
		if err := os.Chmod(d.pinned(name), mode); err != nil {
			return fmt.Errorf("give pins to user %d: %w", uid, err)
		}
	}
	return nil
}
