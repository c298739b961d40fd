package hooks

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
	if uid != 0 {
		if err := reachable(base, uid, gid); err != nil {
			return nil, err
		}
	}
	for unlock == nil { // until it is not removed between the two
		if err := makeDirectory(string(d)); err != nil {
			return nil, err
		}
		if unlock, err = lock(string(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	// Who can open it can lock it, and so keep the sidecar waiting: its user, no more.
	if err := errors.Join(os.Chown(string(d), 0, gid), os.Chmod(string(d), 0o750)); err != nil {
		unlock()
		return nil, fmt.Errorf("give pins to user %d: %w", uid, err)
	}
	for _, dir := range []string{d.maps(), d.links()} {
		if err := makeDirectory(dir); err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

func makeDirectory(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make pin directory: %w", err)
	}
	return nil
}

// lock keeps other processes from changing a directory, which must still be at
// its path when it is locked: otherwise the error is fs.ErrNotExist.
func lock(path string) (unlock func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lock pins: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock pins %s: %w", path, err)
	}
	locked, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		there, err = os.Stat(path)
		if err == nil && !os.SameFile(locked, there) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock pins %s: %w", path, err)
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
		return makeDirectory(dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make pin directory: %w", err)
	}
	return mountBPFFS(dir)
}

func mountBPFFS(dir string) error {
	// Another process may be about to mount it: then the directory is another one
	// once it is locked, and the look at it comes after.
	unlock, err := lock(dir)
	if err == nil {
		defer unlock()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
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
// Established connections go on; new ones are no longer captured. It reports whether
// there was anything, and is an error while a sidecar has claimed it. An empty base
// is [DefaultDirectory].
func Detach(base, name string) (removed bool, err error) {
	if err := checkName(name); err != nil {
		return false, fmt.Errorf("detach: %w", err)
	}
	d := directoryOf(base, name)
	unlock, err := lock(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	if d.claimed() {
		return false, fmt.Errorf("interception %s is in use: stop its sidecar first, or its program's connections would go past it", name)
	}
	if err := d.remove(); err != nil {
		return false, fmt.Errorf("detach %s: %w", name, err)
	}
	return true, nil
}

// remove does what Detach says; the directory is locked.
func (d directory) remove() error {
	hooks, err := os.ReadDir(d.links())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, h := range hooks { // connect first, by name: nothing is sent to the sidecar any more
		if err := unhook(d.link(h.Name())); err != nil {
			return err
		}
	}
	for _, dir := range []string{d.links(), d.maps(), string(d)} {
		if err := os.RemoveAll(dir); err != nil {
			return err
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
