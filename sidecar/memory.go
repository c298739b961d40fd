package sidecar

import (
	"bufio"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memory returns how many bytes this process may use: the least of GOMEMLIMIT, of what its
// cgroups allow, and of what the machine has.
func memory() int64 {
	least := min(debug.SetMemoryLimit(-1), cgroupMemory(os.DirFS("/")))
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		least = min(least, int64(info.Totalram)*int64(info.Unit))
	}
	return least
}

// cgroupMemory returns the least memory limit, in bytes, of this process's cgroup and of those around
// it as far as they are mounted here, of either version (cgroups(7); both may be there, as
// under systemd's hybrid hierarchy). [math.MaxInt64]: none is known.
func cgroupMemory(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	in := cgroupsOf(root)
	for line := range linesOf(root, "proc/self/mountinfo") { // proc_pid_mountinfo(5)
		before, after, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(kind) < 3 {
			continue
		}
		file, of := "memory.max", ""
		switch {
		case kind[0] == "cgroup2":
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "memory"):
			file, of = "memory.limit_in_bytes", "memory"
		default:
			continue
		}
		at, from, point := in[of], mount[3], mount[4]
		below, ok := strings.CutPrefix(at, strings.TrimSuffix(from, "/")+"/")
		if !ok { // what is mounted is the cgroup itself, or nothing is known of where that is
			below = ""
		}
		for dir := path.Join(point, path.Clean("/"+below)); ; dir = path.Dir(dir) {
			least = min(least, limitIn(root, path.Join(dir, file)))
			if len(dir) <= len(point) {
				break
			}
		}
	}
	return least
}

// cgroupsOf returns the paths of this process's cgroups, by the controllers of each hierarchy of
// version 1; that of version 2 has none.
func cgroupsOf(root fs.FS) map[string]string {
	in := map[string]string{}
	for line := range linesOf(root, "proc/self/cgroup") {
		_, rest, _ := strings.Cut(line, ":")
		controllers, at, _ := strings.Cut(rest, ":")
		for _, c := range strings.Split(controllers, ",") {
			in[c] = at
		}
	}
	return in
}

// limitIn reads a limit; [math.MaxInt64]: there is none.
func limitIn(root fs.FS, name string) int64 {
	for line := range linesOf(root, strings.TrimPrefix(name, "/")) {
		if n, err := strconv.ParseInt(line, 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return math.MaxInt64 // "max" as well
}

// maxProcFile bounds what is read of a file about this process, in bytes.
const maxProcFile = 1 << 20

// linesOf gives the lines of a file; none of one that cannot be read.
func linesOf(root fs.FS, name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := root.Open(name)
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		lines := bufio.NewScanner(io.LimitReader(f, maxProcFile))
		for lines.Scan() {
			if !yield(lines.Text()) {
				return
			}
		}
	}
}
