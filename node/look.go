package node

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// errNotYet means that a pod is not so far that it could be captured.
var errNotYet = errors.New("its sandbox is not there yet")

// place is where a pod is on this host.
type place struct {
	cgroup  string
	process int    // one of its sandbox, or of a container
	network uint64 // the inode of its network namespace
}

// host is the machine as its first process sees it.
type host struct {
	proc    string // where processes are
	cgroups cgroups
	network uint64 // the inode of its own network namespace
}

func openHost(proc string) (*host, error) {
	first := filepath.Join(proc, "1")
	root, err := mountOfCgroup2(first)
	if err != nil {
		return nil, explain(err)
	}
	h := &host{proc: proc, cgroups: cgroups{root: root}}
	if h.network, err = inode(filepath.Join(first, "ns", "net")); err != nil {
		return nil, explain(err)
	}
	if _, err := os.Stat(root); err != nil {
		return nil, explain(err)
	}
	return h, nil
}

// explain says what a refused look at another process lacks.
func explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: the agent needs hostPID, CAP_SYS_PTRACE, and AppArmor and SELinux out of its way", err)
	}
	return err
}

// find returns where a pod is; [errNotYet] when it is nowhere.
func (h *host) find(uid string) (place, error) {
	cgroup, ok := h.cgroups.find(uid)
	if !ok {
		return place{}, errNotYet
	}
	pid, network, err := h.processBelow(cgroup)
	return place{cgroup, pid, network}, err
}

// processBelow returns a process of a pod and its network namespace. One that is still in
// the host's is about to enter the pod's.
func (h *host) processBelow(cgroup string) (pid int, network uint64, err error) {
	err = filepath.WalkDir(cgroup, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // it has ended
		}
		f, err := os.Open(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			n, err := strconv.Atoi(lines.Text())
			if err != nil || n == 0 {
				continue
			}
			at, err := inode(h.path(n, "ns", "net"))
			if errors.Is(err, fs.ErrPermission) {
				return explain(err)
			}
			if err == nil && at != h.network {
				pid, network = n, at
				return fs.SkipAll
			}
		}
		return nil
	})
	if err == nil && pid == 0 {
		err = errNotYet
	}
	return pid, network, err
}

func (h *host) path(pid int, elem ...string) string {
	return filepath.Join(append([]string{h.proc, strconv.Itoa(pid)}, elem...)...)
}

// still reports whether a pod is where it was.
func (h *host) still(p place) bool {
	at, err := inode(h.path(p.process, "ns", "net"))
	return err == nil && at == p.network
}

// user returns what the host calls a user of a process's namespace. own says that the
// process is to have a namespace of its own, which it may have yet to enter.
func (h *host) user(pid int, uid uint32, own bool) (uint32, error) {
	table, err := os.ReadFile(h.path(pid, "uid_map"))
	if err != nil {
		return 0, explain(err)
	}
	return outside(string(table), uid, own)
}

// outside reads a uid_map: lines of the first user inside, outside, and how many.
func outside(table string, uid uint32, own bool) (uint32, error) {
	for line := range strings.Lines(table) {
		var in, out, count uint64
		if n, _ := fmt.Sscan(line, &in, &out, &count); n != 3 || in > uint64(uid) || uint64(uid)-in >= count {
			continue
		}
		if own && in == out {
			return 0, errNotYet
		}
		return uint32(out + uint64(uid) - in), nil
	}
	return 0, fmt.Errorf("user %d does not exist in the pod's user namespace", uid)
}

// addresses lists the host's own addresses.
func (h *host) addresses() ([]netip.Addr, error) {
	v4, err := os.ReadFile(h.path(1, "net", "fib_trie"))
	if err != nil {
		return nil, explain(err)
	}
	v6, err := os.ReadFile(h.path(1, "net", "if_inet6"))
	if err != nil && !gone(err) { // IPv6 may not be built in
		return nil, explain(err)
	}
	return append(localAddresses(string(v4)), interfaceAddresses(string(v6))...), nil
}

// localAddresses reads a /proc/net/fib_trie, in which each address of the host has two
// lines:
//
//	|-- 10.42.0.1
//	   /32 host LOCAL
func localAddresses(table string) (all []netip.Addr) {
	var last netip.Addr
	known := map[netip.Addr]bool{}
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "|-- "); ok {
			last, _ = netip.ParseAddr(text)
		} else if line == "/32 host LOCAL" && last.IsValid() && !last.IsLoopback() && !known[last] {
			known[last] = true
			all = append(all, last)
		}
	}
	return all
}

// interfaceAddresses reads a /proc/net/if_inet6: an address in hex begins each line.
func interfaceAddresses(table string) (all []netip.Addr) {
	for line := range strings.Lines(table) {
		text, _, _ := strings.Cut(line, " ")
		b, err := hex.DecodeString(text)
		if a, ok := netip.AddrFromSlice(b); err == nil && ok && !a.IsLoopback() {
			all = append(all, a)
		}
	}
	return all
}

// inode of a namespace's file is the kernel's id of the namespace.
func inode(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}
