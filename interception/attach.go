package interception

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Attach puts interception in place, or brings what is in place to this
// configuration, and opens it. It needs root. Done again it adopts the pins that
// exist: maps keep their contents, each program is replaced atomically, a cgroup
// that was deleted and made anew is attached to. When it fails on the first time,
// nothing is left behind.
func Attach(cfg Config) (*Interception, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("interception %s: %w", cfg.Name, err)
	}
	i, err := attach(cfg, directoryOf(cfg.Directory, cfg.Name))
	if err == nil {
		return i, nil
	}
	// The kernel answers a missing capability in many ways, one of them a page of
	// its verifier's: what is missing says more.
	if missing := privileged(cfg.UID != 0); missing != nil {
		err = missing
	}
	return nil, fmt.Errorf("attach interception %s: %w", cfg.Name, err)
}

// attach goes through the stages: parsed, loaded, attached, opened.
func attach(cfg Config, d directory) (i *Interception, err error) {
	cgroup, id, err := resolveCgroup(cfg.Cgroup)
	if err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil { // counts for BPF before Linux 5.11
		return nil, fmt.Errorf("lift the memlock limit: %w: run as root", err)
	}
	unlock, err := d.prepare(cfg.UID, cfg.GID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	hooks, err := os.ReadDir(d.links())
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	defer func() {
		if err != nil && len(hooks) == 0 {
			err = errors.Join(err, d.remove())
		}
	}()
	if err := d.notElsewhere(id); err != nil {
		return nil, err
	}
	cookie, err := netnsCookie()
	if err != nil {
		return nil, err
	}
	if err := d.notSteered(cfg.Inbound, cookie); err != nil {
		return nil, err
	}

	spec, err := parse()
	if err != nil {
		return nil, err
	}
	objects, err := load(spec, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = objects.Close() }() // the kernel holds what is pinned

	settings := bpfSettings{
		Netns:        cookie,
		Cgroup:       id,
		Layout:       layout,
		OutboundPort: cfg.OutboundPort,
		DnsPort:      cfg.DNSPort,
	}
	if cfg.OnFailure == FailOpen {
		settings.Open = 1
	}
	if err := fill(&objects.bpfMaps, cfg, settings); err != nil {
		return nil, err
	}
	if err := d.give(cfg.UID, cfg.GID); err != nil {
		return nil, err
	}
	// The map is pinned and keeps the program.
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: objects.AcceleratedSockets.FD(), Program: objects.IsthmusSkMsg, Attach: ebpf.AttachSkMsgVerdict,
	}); err != nil {
		return nil, fmt.Errorf("attach sk_msg: %w", err)
	}
	if err := d.hook(&objects.bpfPrograms, cgroup, id, len(cfg.Inbound) > 0, cfg.Log); err != nil {
		return nil, err
	}
	return Open(cfg.Directory, cfg.Name)
}

// notElsewhere reports that a sidecar runs with these pins for another cgroup: its
// program would lose its hooks. A cgroup that is gone needs none.
func (d directory) notElsewhere(cgroup uint64) error {
	if !d.claimed() {
		return nil
	}
	l, err := link.LoadPinnedLink(d.link("connect4"), nil)
	if err != nil {
		return nil // they are not attached, or not ours: what comes says so
	}
	defer func() { _ = l.Close() }()
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("read link %s: %w", d.link("connect4"), err)
	}
	if at := info.Cgroup(); at != nil && at.CgroupId != 0 && at.CgroupId != cgroup {
		return fmt.Errorf("a sidecar runs with this name for another cgroup: stop it, or give this one an interception.name of its own")
	}
	return nil
}

// notSteered reports ports that come to another sidecar of the network namespace.
func (d directory) notSteered(ports []uint16, netns uint64) error {
	base, own := filepath.Split(string(d))
	names, err := Attached(base)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == own {
			continue
		}
		other, err := Open(base, name)
		if err != nil {
			continue // being attached or removed, or of another version
		}
		theirs, err := other.Inbound()
		for _, port := range ports {
			if other.settings.Netns == netns && slices.Contains(theirs, port) {
				err = errors.Join(err, fmt.Errorf("inbound port %d is that of interception %s: give the program another port, or remove that with isthmus intercept clean %s", port, name, name))
			}
		}
		if err := errors.Join(err, other.Close()); err != nil {
			return err
		}
	}
	return nil
}

// parse reads the embedded object and adapts it to this kernel.
func parse() (*ebpf.CollectionSpec, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("parse hooks: %w", err)
	}
	retval := features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval) == nil
	if err := spec.Variables[bpfVarErrnoSettable].Set(retval); err != nil {
		return nil, fmt.Errorf("parse hooks: %w", err)
	}
	return spec, nil
}

// load hands programs and maps to the kernel; the maps are adopted from d, or
// pinned there. An empty d pins nothing.
func load(spec *ebpf.CollectionSpec, d directory) (*bpfObjects, error) {
	var options ebpf.CollectionOptions
	if d == "" {
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinNone
		}
	} else {
		options.Maps.PinPath = d.maps()
	}
	var objects bpfObjects
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

// fill writes the configuration into the maps.
func fill(m *bpfMaps, cfg Config, settings bpfSettings) error {
	if err := m.Current.Put(uint32(0), settings); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	prefixes := make(map[bpfPrefix]bool)
	for _, p := range cfg.Captured {
		prefixes[prefixOf(p)] = true
	}
	if err := replace(m.Captured, prefixes); err != nil {
		return fmt.Errorf("write captured prefixes: %w", err)
	}
	ports := make(map[uint16]bool)
	for _, p := range cfg.Inbound {
		ports[p] = true
	}
	if err := replace(m.InboundPorts, ports); err != nil {
		return fmt.Errorf("write inbound ports: %w", err)
	}
	return nil
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
		bpfMapSidecarSockets:     0o600,
		bpfMapAskedByPeer:        0o600,
		bpfMapOwnDials:           0o600,
		bpfMapCallers:            0o600,
		bpfMapAcceleration:       0o600,
		bpfMapAcceleratedSockets: 0o600,
		bpfMapFlows:              0o600,
		bpfMapCaughtUp:           0o600,
		bpfMapCurrent:            0o400,
		bpfMapInboundPorts:       0o400,
		bpfMapCounters:           0o400,
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

// netnsCookie is the kernel's name for the caller's network namespace; 0 before
// Linux 5.14, which does not tell.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return cookie, nil
}
