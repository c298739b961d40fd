package hooks

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// claim is a lock on the pinned maps: one sidecar runs with them. It ends with the
// process that holds it. The zero value holds nothing.
type claim struct{ file *os.File }

func (c claim) close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// Claim says that a sidecar runs here, until Close or the end of the process. It is
// an error while another one has said so; [Attach] and [Detach] respect it.
func (h *Handle) Claim() error {
	unlock, err := lock(string(h.pins)) // against Attach and Detach, which look for a claim
	if err != nil {
		return fmt.Errorf("claim interception %s: %w", h.name, err)
	}
	defer unlock()
	h.lock, err = h.pins.claim()
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("interception %s is another sidecar's: give this one an interception.name of its own", h.name)
	case err != nil:
		return fmt.Errorf("claim interception %s: %w", h.name, err)
	}
	// A sidecar that was killed during a dial has left its pair, which would let
	// a later connection pass.
	var pair bpf.KernelPair
	var whose uint8
	for entries := h.dials.Iterate(); entries.Next(&pair, &whose); {
		if whose == bpf.DialSidecar {
			_ = h.dials.Delete(pair)
		}
	}
	return nil
}

// claim takes the lock; unix.EWOULDBLOCK means that a sidecar holds it. The caller
// has locked the directory.
func (d directory) claim() (claim, error) {
	f, err := os.Open(d.maps())
	if err != nil {
		return claim{}, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return claim{}, err
	}
	return claim{f}, nil
}

// claimed reports whether a sidecar runs with the pins. The caller has locked the
// directory.
func (d directory) claimed() bool {
	c, err := d.claim()
	_ = c.close()
	return errors.Is(err, unix.EWOULDBLOCK)
}
