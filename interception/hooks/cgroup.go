package hooks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoCgroup2 means that cgroup v2 is not mounted.
var ErrNoCgroup2 = errors.New("cgroup v2 is not mounted: boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup/unified")

// CgroupRoot finds where cgroup v2 is mounted: /sys/fs/cgroup on most hosts,
// /sys/fs/cgroup/unified beside cgroup v1, anywhere in containers.
func CgroupRoot() (string, error) { return CgroupRootOf("/proc/self") }

// CgroupRootOf is CgroupRoot for another process, by its directory of /proc: the path is as
// that process sees it.
func CgroupRootOf(proc string) (string, error) {
	f, err := os.Open(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	defer f.Close()
	return cgroupRoot(f)
}

// cgroupRoot reads the first mount of type cgroup2 from a mountinfo(5).
func cgroupRoot(mountinfo io.Reader) (string, error) {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point options [tags] - type source superoptions
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return unescape(fields[4]), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	return "", ErrNoCgroup2
}

// unescape undoes mountinfo's octal escapes of blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// cgroupOf returns the path of a process's cgroup v2.
func cgroupOf(pid int) (string, error) {
	root, err := CgroupRoot()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return filepath.Join(root, path), nil
		}
	}
	return "", ErrNoCgroup2
}

// ResolveCgroup returns the absolute path of the configured cgroup and its id.
func ResolveCgroup(path string) (string, uint64, error) {
	if !filepath.IsAbs(path) {
		root, err := CgroupRoot()
		if err != nil {
			return "", 0, err
		}
		path = filepath.Join(root, path)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return "", 0, fmt.Errorf("cgroup %s: %w: create it, or name the one that the program runs in", path, err)
	}
	if fs.Type != cgroup2Magic {
		root, err := CgroupRoot()
		if err != nil {
			return "", 0, fmt.Errorf("%s is not a cgroup v2: %w", path, err)
		}
		return "", 0, fmt.Errorf("%s is not a cgroup v2: name one below %s", path, root)
	}
	id, err := inode(path)
	if err != nil {
		return "", 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	return path, id, nil
}

// inode of a cgroup's directory is the kernel's id of the cgroup; that of a
// namespace file is the id of the namespace.
func inode(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// inodeOf is inode of an open file.
func inodeOf(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// withinCgroup reports whether the calling process is in the cgroup with this
// id, or below it.
func withinCgroup(id uint64) (bool, error) {
	root, err := CgroupRoot()
	if err != nil {
		return false, err
	}
	path, err := cgroupOf(os.Getpid())
	if err != nil {
		return false, err
	}
	for {
		at, err := inode(path)
		if err != nil {
			return false, err
		}
		if at == id {
			return true, nil
		}
		if path == root || path == "/" {
			return false, nil
		}
		path = filepath.Dir(path)
	}
}
