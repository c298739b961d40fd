package interception

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// prepare makes the pin directories, on a bpffs, and locks them against another
// Attach or Detach until the returned function is called. The user of the pins
// must be able to reach them.
func (d directory) prepare(uid, gid int) (unlock func(), err error) {
	base := filepath.Dir(string(d))
	if err := ensureBPFFS(base); err != nil {
		return nil, err
	}
	for _, dir := range []string{string(d), d.maps(), d.links()} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make pin directory: %w", err)
		}
	}
	if uid != 0 {
		if err := reachable(base, uid, gid); err != nil {
			return nil, err
		}
	}
	return d.lock()
}

func (d directory) lock() (unlock func(), err error) {
	f, err := os.Open(string(d))
	if err != nil {
		return nil, fmt.Errorf("lock pins: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock pins %s: %w", d, err)
	}
	return func() { f.Close() }, nil
}

// ensureBPFFS makes dir exist on a bpffs. Below /sys/fs/bpf, where every host
// has one, that is mounted when it is missing; elsewhere one is mounted on dir.
func ensureBPFFS(dir string) error {
	const usual = "/sys/fs/bpf"
	if filepath.Dir(dir) == usual {
		if err := mountBPFFS(usual); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make pin directory: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make pin directory: %w", err)
	}
	return mountBPFFS(dir)
}

func mountBPFFS(dir string) error {
	var at unix.Statfs_t
	if err := unix.Statfs(dir, &at); err != nil {
		return fmt.Errorf("pin directory %s: %w", dir, err)
	}
	if at.Type == bpffsMagic {
		return nil
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return fmt.Errorf("mount a bpffs on %s: %w: run as root, or mount -t bpf bpf %s", dir, err, dir)
	}
	return nil
}

// reachable reports which directory above the pins keeps the user out.
func reachable(dir string, uid, gid int) error {
	for at := dir; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return fmt.Errorf("pin directory: %w", err)
		}
		need := uint32(0o001)
		switch {
		case int(st.Uid) == uid:
			need = 0o100
		case int(st.Gid) == gid:
			need = 0o010
		}
		if st.Mode&need == 0 {
			return fmt.Errorf("user %d cannot enter %s (mode %04o), above the pins: use a pin directory elsewhere, such as /run/isthmus/bpf", uid, at, st.Mode&0o7777)
		}
		if at == "/" {
			return nil
		}
	}
}

// Detach removes what [Attach] put in place: the hooks first, then the maps.
// Established connections go on; new ones are no longer captured. It is no
// error if there is nothing. An empty base is [DefaultDirectory].
func Detach(base, name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("detach: name %q: use lower-case letters, digits and dashes", name)
	}
	d := directoryOf(base, name)
	unlock, err := d.lock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	hooks, err := os.ReadDir(d.links())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("detach %s: %w", name, err)
	}
	for _, h := range hooks { // connect first, by name: nothing is sent to the sidecar any more
		if err := unhook(d.link(h.Name())); err != nil {
			return err
		}
	}
	for _, dir := range []string{d.links(), d.maps(), string(d)} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("detach %s: %w", name, err)
		}
	}
	return nil
}

// Attached lists the names that have pins below base, sorted. An empty base is
// [DefaultDirectory].
func Attached(base string) ([]string, error) {
	if base == "" {
		base = DefaultDirectory
	}
	entries, err := os.ReadDir(base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && nameForm.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
