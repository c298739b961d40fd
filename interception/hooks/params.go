package hooks

const (
	// maxCaptured is how many prefixes the LPM map holds (max_entries).
	maxCaptured = 4096

	// maxInboundPorts is how many ports can be steered (max_entries).
	maxInboundPorts = 256

	// cgroup2Magic is what statfs reports for cgroup v2 (CGROUP2_SUPER_MAGIC).
	cgroup2Magic = 0x63677270

	// bpffsMagic is what statfs reports for a bpffs (BPF_FS_MAGIC).
	bpffsMagic = 0xcafe4a11
)

// maxSourceTries bounds the ports that are tried for one connection: others may hold
// some of them.
const maxSourceTries = 256

// DefaultDirectory is where pins are kept unless told otherwise. A bpffs of our
// own is mounted there: /sys/fs/bpf is closed to other users than root on most
// hosts with systemd.
const DefaultDirectory = "/run/isthmus/bpf"
