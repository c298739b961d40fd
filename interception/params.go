package interception

const (
	// layout is the version of the structs in bpf/maps.h. Attach and Open refuse
	// pins of another one.
	layout = 2

	// dialSidecar is the value of own_dials for our connections (DIAL_SIDECAR).
	dialSidecar uint8 = 1

	// maxCaptured is how many prefixes the LPM map holds (max_entries).
	maxCaptured = 4096

	// maxInboundPorts is how many ports can be steered (max_entries).
	maxInboundPorts = 256

	// maxRedirected is how many prefixes the nftables fallback takes: each is two
	// rules that every new connection of the program is compared with.
	maxRedirected = 256

	// cgroup2Magic is what statfs reports for cgroup v2 (CGROUP2_SUPER_MAGIC).
	cgroup2Magic = 0x63677270

	// bpffsMagic is what statfs reports for a bpffs (BPF_FS_MAGIC).
	bpffsMagic = 0xcafe4a11
)

// DefaultDirectory is where pins are kept unless told otherwise. A bpffs of our
// own is mounted there: /sys/fs/bpf is closed to other users than root on most
// hosts with systemd.
const DefaultDirectory = "/run/isthmus/bpf"
