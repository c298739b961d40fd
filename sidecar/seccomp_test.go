package sidecar

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asProgram makes the test binary a program that tries what denySplice denies; it
// ends with the number of calls that were not refused, or with 10.
const asProgram = "ISTHMUS_SIDECAR_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(tryDenied())
	}
	os.Exit(m.Run())
}

func tryDenied() int {
	var pipe [2]int
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err = errors.Join(err, unix.Pipe(pipe[:])); err != nil {
		return 10
	}
	nobody := &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}
	_, splice := unix.Splice(socket, nil, pipe[1], nil, 1, unix.SPLICE_F_NONBLOCK)
	_, _, ring := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	_, zerocopy := unix.GetsockoptInt(socket, unix.IPPROTO_TCP, 35)
	allowed := 0
	for _, c := range []struct{ got, want error }{
		{splice, unix.EINVAL},
		{ring, unix.ENOSYS},
		{unix.SetsockoptString(socket, unix.IPPROTO_TCP, unix.TCP_ULP, "tls"), unix.ENOPROTOOPT},
		{zerocopy, unix.ENOPROTOOPT},
		{unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1), unix.ENOPROTOOPT},
		{unix.Sendto(socket, []byte("early"), unix.MSG_FASTOPEN, nobody), unix.EOPNOTSUPP},
		{unix.Sendmsg(socket, []byte("early"), nil, nobody, unix.MSG_FASTOPEN), unix.EOPNOTSUPP},
	} {
		if !errors.Is(c.got, c.want) {
			allowed++
		}
	}
	// Other options of TCP, and that number at another level, are left alone.
	if err := errors.Join(unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)); err != nil {
		return 10
	}
	return allowed
}

func TestAnAcceleratedProgramIsKeptFromSplice(t *testing.T) {
	t.Setenv(asProgram, "1")
	argv := []string{"/proc/self/exe"}
	err := newProgram(argv, nil).run(t.Context(), programStart{unspliced: true, grace: time.Minute})
	if ended, ok := errors.AsType[*ProgramError](err); !ok || ended.Code != 0 {
		t.Errorf("%v: something that must be refused was not", err)
	}
	err = newProgram(argv, nil).run(t.Context(), programStart{grace: time.Minute})
	if ended, ok := errors.AsType[*ProgramError](err); !ok || ended.Code != 7 {
		t.Errorf("%v: a program that is not accelerated is kept from something", err)
	}
	// The test goes on in a process that is not kept from anything.
	if n := tryDenied(); n != 7 {
		t.Errorf("the sidecar itself is kept from something: %d", n)
	}
}
