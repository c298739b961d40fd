package hooks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Attach puts the hooks in place, or brings what is in place to this configuration,
// and opens them. It needs root. A second call adopts the pins that exist: maps keep
// their contents, each program is replaced atomically, and a cgroup that was deleted
// and made again is attached to. When the first call fails, nothing is left behind.
func Attach(cfg Config) (*Handle, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("interception %s: %w", cfg.Name, err)
	}
	h, err := attach(cfg, directoryOf(cfg.Directory, cfg.Name))
	if err == nil {
		return h, nil
	}
	// The kernel answers a missing capability in many ways, one of them a page of
	// its verifier's. The list of what is missing is clearer.
	if missing := privileged(cfg.UID != 0); missing != nil {
		err = missing
	}
	return nil, fmt.Errorf("attach interception %s: %w", cfg.Name, err)
}

// attach makes and locks the pin directories, and cleans up after a first attempt
// that fails.
func attach(cfg Config, d directory) (h *Handle, err error) {
	cgroup, id, err := ResolveCgroup(cfg.Cgroup)
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
	before, err := os.ReadDir(d.links())
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	if err := d.attach(cfg, cgroup, id); err != nil {
		if len(before) == 0 {
			err = errors.Join(err, d.remove())
		}
		return nil, err
	}
	return Open(cfg.Directory, cfg.Name)
}

// attach goes through the stages: checked, loaded, configured, attached. The
// directory is locked.
func (d directory) attach(cfg Config, cgroup string, id uint64) error {
	if err := d.notElsewhere(id); err != nil {
		return err
	}
	cookie, err := netnsCookie()
	if err != nil {
		return err
	}
	if err := d.notSteered(cfg.Inbound, cookie); err != nil {
		return err
	}
	spec, err := parse()
	if err != nil {
		return err
	}
	objects, err := load(spec, d, nil)
	if err != nil {
		return err
	}
	defer func() { _ = objects.Close() }() // the kernel holds what is pinned
	first, count := outgoingPorts()
	settings := bpf.KernelSettings{
		Netns: cookie, Cgroup: id, Layout: bpf.Layout, OutboundPort: cfg.OutboundPort, DnsPort: cfg.DNSPort,
		FirstPort: uint16(first), Ports: uint16(count),
	}
	if cfg.OnFailure == FailOpen {
		settings.Open = 1
	}
	if err := fill(&objects.KernelMaps, cfg.Captured, cfg.Inbound, nil, settings); err != nil {
		return err
	}
	if err := d.give(cfg.UID, cfg.GID); err != nil {
		return err
	}
	return d.hook(objects, cgroup, id, len(cfg.Inbound) > 0, cfg.Log)
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
		theirs, err := other.inboundPorts()
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
