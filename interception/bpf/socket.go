package bpf

import (
	"fmt"
	"syscall"
)

// Control runs f with the descriptor of a TCP listener or connection, which still owns
// it.
func Control(l any, f func(fd int) error) error {
	c, ok := l.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no socket: hand in the TCP listener itself", l)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
