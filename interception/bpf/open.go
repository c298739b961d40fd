package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// ErrNotAttached means that a map is not pinned.
var ErrNotAttached = errors.New("not attached: run isthmus intercept attach as root")

// OpenMap opens the map of that name that is pinned in a directory.
func OpenMap(dir, name string, readOnly bool) (*ebpf.Map, error) {
	path := filepath.Join(dir, name)
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: readOnly})
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", path, ErrNotAttached)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w: it does not belong to user %d (attach with --user), or the kernel is older than 6.0 and CAP_BPF is missing", path, err, os.Getuid())
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}
