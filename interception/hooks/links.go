package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// hook is one program on the cgroup; its name is that of its file in bpf/ and of
// its pin.
type hook struct {
	name    string
	at      ebpf.AttachType
	program *ebpf.Program
}

// podOnlyHooks are on a pod's cgroup beside [cgroupHooks], and before them.
func podOnlyHooks(p *bpf.KernelObjects) []hook {
	return []hook{
		{"sock_create", ebpf.AttachCGroupInetSockCreate, p.IsthmusSockCreate},
		{"getsockopt", ebpf.AttachCGroupGetsockopt, p.IsthmusGetsockopt},
	}
}

// cgroupHooks are in the order in which they are attached: what publishes and
// restores addresses before what rewrites them.
func cgroupHooks(p *bpf.KernelObjects) []hook {
	return []hook{
		{"sockops", ebpf.AttachCGroupSockOps, p.IsthmusSockops},
		{"getpeername4", ebpf.AttachCgroupInet4GetPeername, p.IsthmusGetpeername4},
		{"getpeername6", ebpf.AttachCgroupInet6GetPeername, p.IsthmusGetpeername6},
		{"recvmsg4", ebpf.AttachCGroupUDP4Recvmsg, p.IsthmusRecvmsg4},
		{"recvmsg6", ebpf.AttachCGroupUDP6Recvmsg, p.IsthmusRecvmsg6},
		{"sendmsg4", ebpf.AttachCGroupUDP4Sendmsg, p.IsthmusSendmsg4},
		{"sendmsg6", ebpf.AttachCGroupUDP6Sendmsg, p.IsthmusSendmsg6},
		{"connect4", ebpf.AttachCGroupInet4Connect, p.IsthmusConnect4},
		{"connect6", ebpf.AttachCGroupInet6Connect, p.IsthmusConnect6},
	}
}

// inboundHook is the pin of the program on the network namespace.
const inboundHook = "sk_lookup"

// hook attaches every program, or replaces the one under the pinned link. sk_msg is
// attached to its map, which is pinned and keeps it.
func (d directory) hook(p *bpf.KernelObjects, cgroup string, id uint64, inbound bool, log *slog.Logger) error {
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: p.AcceleratedSockets.FD(), Program: p.IsthmusSkMsg, Attach: ebpf.AttachSkMsgVerdict,
	}); err != nil {
		return fmt.Errorf("attach sk_msg: %w", err)
	}
	if err := d.hookCgroup(cgroupHooks(p), cgroup, id, log); err != nil {
		return err
	}
	if !inbound {
		return unhook(d.link(inboundHook))
	}
	// Not /proc/self: that is the main thread's, and threads can differ.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("attach %s: %w", inboundHook, err)
	}
	defer ns.Close()
	return d.hookInbound(p.IsthmusSkLookup, ns, log)
}

// hookCgroup attaches programs to the cgroup of that path and id.
func (d directory) hookCgroup(hooks []hook, cgroup string, id uint64, log *slog.Logger) error {
	for _, h := range hooks {
		adopted, err := adopt(d.link(h.name), h.program,
			func(info *link.Info) bool {
				at := info.Cgroup()
				return at != nil && at.CgroupId == id && ebpf.AttachType(at.AttachType) == h.at
			},
			func() (link.Link, error) {
				return link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: h.at, Program: h.program})
			})
		if err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.name, cgroup, err)
		}
		log.Debug("hook attached", "hook", h.name, "cgroup", cgroup, "adopted", adopted)
	}
	return nil
}

// hookInbound attaches the program to a network namespace.
func (d directory) hookInbound(program *ebpf.Program, ns *os.File, log *slog.Logger) error {
	number, err := inodeOf(ns)
	if err != nil {
		return fmt.Errorf("attach %s: %w", inboundHook, err)
	}
	adopted, err := adopt(d.link(inboundHook), program,
		func(info *link.Info) bool {
			at := info.NetNs()
			return at != nil && uint64(at.NetnsInode) == number
		},
		func() (link.Link, error) { return link.AttachNetNs(int(ns.Fd()), program) })
	if err != nil {
		return fmt.Errorf("attach %s to the network namespace: %w", inboundHook, err)
	}
	log.Debug("hook attached", "hook", inboundHook, "adopted", adopted)
	return nil
}

// adopt replaces the program under the link pinned at path if it is where it
// should be. Otherwise it attaches anew, and only then lets go of the old link:
// there is no moment without a hook.
func adopt(path string, program *ebpf.Program, inPlace func(*link.Info) bool, attach func() (link.Link, error)) (bool, error) {
	old, err := link.LoadPinnedLink(path, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%s is not a link of ours: %w: remove it, or use another name", path, err)
	}
	if err == nil {
		defer func() { _ = old.Close() }() // the pin keeps it
		info, err := old.Info()
		if err != nil {
			return false, fmt.Errorf("read link %s: %w", path, err)
		}
		if inPlace(info) {
			if err := old.Update(program); err != nil {
				return false, fmt.Errorf("replace program of %s: %w", path, err)
			}
			return true, nil
		}
	}
	l, err := attach()
	if err != nil {
		return false, err
	}
	defer func() { _ = l.Close() }() // the pin keeps it
	if old != nil {
		if err := old.Unpin(); err != nil {
			return false, fmt.Errorf("unpin %s: %w", path, err)
		}
	}
	if err := l.Pin(path); err != nil {
		return false, fmt.Errorf("pin %s: %w", path, err)
	}
	return false, nil
}

// unhook detaches the link pinned at path, if there is one, and removes the pin.
// Removing the pin alone would do it too, but some time later.
func unhook(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(l.Detach(), l.Close())
	}
	if err := errors.Join(err, os.Remove(path)); err != nil {
		return fmt.Errorf("detach %s: %w", path, err)
	}
	return nil
}
