package sidecar

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// denySplice has the calling thread, and what it starts from now on, do without the
// system calls that read or write a TCP socket past what acceleration puts into it
// (see interception.TryAcceleration): they fail as where the kernel lacks them, and
// programs then use read and write. The goroutine must be locked to its thread, and
// the thread must not be used for anything else afterwards.
//
// The filter is all that keeps the program's data whole, so it is set or the program
// does not start. Of a 32-bit program it does not see TCP_ULP.
func denySplice() error {
	filter, err := spliceFilter()
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	set := func() error {
		return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	}
	err = set()
	if errors.Is(err, unix.EACCES) { // without CAP_SYS_ADMIN: then it gains no privilege by what it executes, either
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			err = set()
		}
	}
	if err != nil {
		return fmt.Errorf("keep it from splice(2) by seccomp: %w: write interception.acceleration: off", err)
	}
	return nil
}

// refusal is a system call that fails with errno when it has these arguments.
type refusal struct {
	call  uint32
	args  []argument
	errno unix.Errno
}

type argument struct{ number, value uint32 }

// spliceFilter is a seccomp program over struct seccomp_data.
func spliceFilter() ([]unix.SockFilter, error) {
	const (
		arch         = 4 // its offset
		spliceI386   = 313
		spliceARM    = 340
		x32          = 1 << 30
		ulp          = 31 // TCP_ULP, for setsockopt(2)
		zerocopyRecv = 35 // TCP_ZEROCOPY_RECEIVE, for getsockopt(2)
	)
	native, other := uint32(unix.AUDIT_ARCH_X86_64), uint32(spliceI386)
	switch runtime.GOARCH {
	case "amd64":
	case "arm64":
		native, other = unix.AUDIT_ARCH_AARCH64, spliceARM
	default:
		return nil, fmt.Errorf("interception.acceleration is not for %s: write off", runtime.GOARCH)
	}
	foreign := refusals(
		refusal{call: other, errno: unix.EINVAL},
		refusal{call: unix.SYS_IO_URING_SETUP, errno: unix.ENOSYS}, // has one number everywhere
	)
	code := []bpf.Instruction{
		bpf.LoadAbsolute{Off: arch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: native, SkipTrue: uint8(len(foreign))},
	}
	code = append(code, foreign...)
	code = append(code, refusals(
		refusal{call: unix.SYS_SPLICE, errno: unix.EINVAL},
		refusal{call: unix.SYS_SPLICE | x32, errno: unix.EINVAL},
		refusal{call: unix.SYS_IO_URING_SETUP, errno: unix.ENOSYS},
		refusal{unix.SYS_SETSOCKOPT, []argument{{1, unix.IPPROTO_TCP}, {2, ulp}}, unix.ENOPROTOOPT},
		refusal{unix.SYS_GETSOCKOPT, []argument{{1, unix.IPPROTO_TCP}, {2, zerocopyRecv}}, unix.ENOPROTOOPT},
	)...)
	raw, err := bpf.Assemble(code)
	if err != nil {
		return nil, err
	}
	filter := make([]unix.SockFilter, len(raw))
	for n, r := range raw {
		filter[n] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filter, nil
}

// refusals refuses those calls and allows all others.
func refusals(all ...refusal) []bpf.Instruction {
	var code []bpf.Instruction
	for _, r := range all {
		for n := -1; n < len(r.args); n++ {
			at, want := uint32(0), r.call
			if n >= 0 {
				at, want = 16+8*r.args[n].number, r.args[n].value // its low half
			}
			rest := 2*(len(r.args)-1-n) + 1
			code = append(code,
				bpf.LoadAbsolute{Off: at, Size: 4},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: want, SkipFalse: uint8(rest)})
		}
		code = append(code, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(r.errno)})
	}
	return append(code, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}
