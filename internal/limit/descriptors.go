package limit

import "golang.org/x/sys/unix"

const (
	// fewest is what is reckoned with when the kernel does not say how many files may
	// be open, and the least that is reckoned with: POSIX's _POSIX_OPEN_MAX is 20, no
	// system of today gives less than 256.
	fewest = 256
	// most is what is reckoned with at most: beyond it memory ends first.
	most = 1 << 20
	// reserved is the part that is left to everything that is no caller's: files,
	// tunnels, connections to gateways, the admin port.
	reserved = 8
)

// Descriptors returns how many descriptors this process may have open for callers:
// what RLIMIT_NOFILE says, less an eighth. Go raises the soft limit to the hard one
// when a process starts, and gives its children the old one.
func Descriptors() int {
	var l unix.Rlimit
	n := uint64(fewest)
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err == nil {
		n = max(fewest, min(l.Cur, most))
	}
	return int(n - n/reserved)
}

// Part returns one of parts equal parts of the descriptors, and no more than ceiling.
func Part(parts, ceiling int) int { return min(Descriptors()/parts, ceiling) }
