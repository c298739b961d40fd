package sidecar

import (
	"os"
	"os/signal"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reapOrphans waits for the processes that others left behind, as PID 1 must: each
// would hold its process number for ever. It leaves the program, whose number is
// given, to who waits for it. The returned function ends that.
func reapOrphans(program int) (stop func()) {
	dead := make(chan os.Signal, 1) // a signal that is missed is one of several
	signal.Notify(dead, unix.SIGCHLD)
	var reaping sync.WaitGroup
	reaping.Go(func() {
		for range dead {
			for reapOne(program) {
			}
		}
	})
	return func() {
		signal.Stop(dead)
		close(dead)
		reaping.Wait()
		for reapOne(program) { // whom the program's end left behind
		}
	}
}

// reapOne reaps one child that has ended and is not the program, and reports whether
// there was one.
func reapOne(program int) bool {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return false
	}
	pid := int(childOf(&info))
	if pid == 0 || pid == program { // the kernel shows it first until it was waited for
		return false
	}
	_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return err == nil
}

// childOf returns the child that a siginfo_t of waitid(2) is about: si_pid, which
// stands behind three ints, aligned like a pointer.
func childOf(info *unix.Siginfo) int32 {
	return *(*int32)(unsafe.Add(unsafe.Pointer(info), 8+unsafe.Sizeof(uintptr(0))))
}
