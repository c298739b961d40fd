package hooks

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// maxAdopted bounds the descriptors that are looked at: a sidecar listens before it does
// anything else.
const maxAdopted = 1024

// adoptSockets puts the listening sockets of a sidecar that runs already into the map, unless
// it has some: nothing tells the hooks of what listened before them. It takes CAP_SYS_PTRACE.
func adoptSockets(sockets *ebpf.Map, cfg Pod) error {
	var cookie uint64
	if sockets.Lookup(uint32(bpf.KernelSlotSLOT_OUTBOUND4), &cookie) == nil {
		return nil
	}
	pids, err := processesBelow(cfg.Cgroup)
	if err != nil {
		return fmt.Errorf("look for a sidecar: %w", err)
	}
	for _, pid := range pids {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			continue // it has ended
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != cfg.UID {
			continue
		}
		if err := adoptSocketsOf(pid, sockets, cfg); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("take the sidecar's sockets over: %w", err)
		}
	}
	return nil
}

// adoptSocketsOf looks at the first descriptors of a process. (To list them would take
// CAP_DAC_READ_SEARCH.)
func adoptSocketsOf(pid int, sockets *ebpf.Map, cfg Pod) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(process) }()
	for number := range maxAdopted {
		fd, err := unix.PidfdGetfd(process, number, 0)
		if errors.Is(err, unix.EBADF) {
			continue // not open
		}
		if err != nil {
			return err
		}
		for _, slot := range slotsOf(fd, cfg) {
			if err := sockets.Put(uint32(slot), uint64(fd)); err != nil {
				_ = unix.Close(fd)
				return err
			}
		}
		_ = unix.Close(fd)
	}
	return nil
}

// slotsOf says what a socket is to the hooks: as sockops.c does when it begins to listen.
func slotsOf(fd int, cfg Pod) []bpf.KernelSlot {
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n == 0 {
		return nil
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return nil
	}
	var port int
	v4, v6 := false, false
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		port, v4 = a.Port, true
	case *unix.SockaddrInet6:
		port, v6, v4 = a.Port, true, a.Addr == [16]byte{}
	}
	var slot4, slot6 bpf.KernelSlot
	switch uint16(port) {
	case cfg.OutboundPort:
		slot4, slot6 = bpf.KernelSlotSLOT_OUTBOUND4, bpf.KernelSlotSLOT_OUTBOUND6
	case cfg.DNSPort:
		slot4, slot6 = bpf.KernelSlotSLOT_DNS4, bpf.KernelSlotSLOT_DNS6
	case cfg.InboundPort:
		slot4, slot6 = bpf.KernelSlotSLOT_INBOUND4, bpf.KernelSlotSLOT_INBOUND6
	default:
		return nil
	}
	var slots []bpf.KernelSlot
	if v4 {
		slots = append(slots, slot4)
	}
	if v6 {
		slots = append(slots, slot6)
	}
	return slots
}

// processesBelow lists the processes of a cgroup and of those below it.
func processesBelow(cgroup string) (pids []int, err error) {
	err = filepath.WalkDir(cgroup, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a container has ended
		}
		if err != nil || !e.IsDir() {
			return err
		}
		f, err := os.Open(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}
