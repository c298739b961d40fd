// Package dialerr tells of a dial that failed whose fault it is.
package dialerr

import (
	"errors"
	"syscall"
)

// Own reports whether a dial failed for want of something on this machine: a local
// address or port, a descriptor, memory. It says nothing of who was dialled.
func Own(err error) bool {
	for _, own := range []error{syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}
