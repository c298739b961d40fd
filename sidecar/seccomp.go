package sidecar

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// denySplice denies the calling thread, and every program that it starts from now
// on, the system calls that bypass acceleration (see package interception/sockmap):
// they read or write a TCP socket without the bytes that acceleration moves. They
// fail as on a kernel that lacks them, and programs then use read and write. The
// goroutine must be locked to its thread, and the thread must not be used for
// anything else afterwards.
//
// The program's data depends on it, so it is set or the program does not start. A
// 32-bit program is kept from splice and io_uring only.
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

// argument is one by its number, and what is meant: a value, or bits in it.
type argument struct {
	number, value uint32
	bits          bool
}

// spliceFilter is a seccomp program over struct seccomp_data.
func spliceFilter() ([]unix.SockFilter, error) {
	const (
		arch         = 4 // its offset
		spliceI386   = 313
		spliceARM    = 340
		x32          = 1 << 30
		fastopen     = 30 // TCP_FASTOPEN_CONNECT, for setsockopt(2)
		ulp          = 31 // TCP_ULP, for the same
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
	code = append(code, // all of x32, which few kernels have
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: x32, SkipFalse: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	tcp := argument{number: 1, value: unix.IPPROTO_TCP}
	early := func(n uint32) []argument { return []argument{{number: n, value: unix.MSG_FASTOPEN, bits: true}} }
	code = append(code, refusals(
		refusal{call: unix.SYS_SPLICE, errno: unix.EINVAL},
		refusal{call: unix.SYS_IO_URING_SETUP, errno: unix.ENOSYS},
		refusal{unix.SYS_SETSOCKOPT, []argument{tcp, {number: 2, value: ulp}}, unix.ENOPROTOOPT},
		refusal{unix.SYS_SETSOCKOPT, []argument{tcp, {number: 2, value: fastopen}}, unix.ENOPROTOOPT},
		refusal{unix.SYS_GETSOCKOPT, []argument{tcp, {number: 2, value: zerocopyRecv}}, unix.ENOPROTOOPT},
		refusal{unix.SYS_SENDTO, early(3), unix.EOPNOTSUPP},
		refusal{unix.SYS_SENDMSG, early(2), unix.EOPNOTSUPP},
		refusal{unix.SYS_SENDMMSG, early(3), unix.EOPNOTSUPP},
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
			at, is := uint32(0), bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.call}
			if n >= 0 {
				at, is.Val = 16+8*r.args[n].number, r.args[n].value // its low half
				if r.args[n].bits {
					is.Cond = bpf.JumpBitsSet
				}
			}
			is.SkipFalse = uint8(2*(len(r.args)-1-n) + 1)
			code = append(code, bpf.LoadAbsolute{Off: at, Size: 4}, is)
		}
		code = append(code, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(r.errno)})
	}
	return append(code, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}
