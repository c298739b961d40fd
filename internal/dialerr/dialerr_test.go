package dialerr

import (
	"context"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestWhatThisMachineLacksIsToldFromWhatTheOtherDoes(t *testing.T) {
	// A real one: there is no such local address.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}
	if _, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:1"); !Own(err) {
		t.Errorf("%v is no fault of this machine", err)
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:1"); err == nil || Own(err) {
		t.Errorf("%v is this machine's fault", err)
	}
	for err, want := range map[error]bool{
		&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}:        true,
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}: false,
		context.DeadlineExceeded: false,
	} {
		if Own(err) != want {
			t.Errorf("%v: %t, want %t", err, !want, want)
		}
	}
}
