package hooks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Check is one thing that interception wants of a machine.
type Check struct {
	Name     string // kernel, cgroup, privilege, bpffs, hooks, attach; errno, unprivileged
	Required bool   // for Attach; the rest makes something better
	Err      error  // nil: it is there; otherwise why not and what to do
}

// Support is what [Probe] found.
type Support struct {
	Checks []Check
}

// Err joins what Attach would fail for; nil if this machine and this process can
// intercept.
func (s Support) Err() error {
	var faults []error
	for _, c := range s.Checks {
		if c.Required && c.Err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", c.Name, c.Err))
		}
	}
	return errors.Join(faults...)
}

// Probe finds out what the kernel, the mounts and the privilege of this process
// allow. What it loads and attaches for that, to an empty cgroup, is gone when it
// returns.
func Probe() Support {
	var s Support
	required := func(name string, err error) { s.Checks = append(s.Checks, Check{name, true, err}) }

	var uts unix.Utsname
	release := ""
	if err := unix.Uname(&uts); err == nil {
		release = unix.ByteSliceToString(uts.Release[:])
	}
	required("kernel", kernelSince(release, 5, 10))
	root, err := CgroupRoot()
	required("cgroup", err)
	required("privilege", privileged(false))
	required("bpffs", probeBPFFS())
	if s.Err() != nil {
		return s // what follows would fail for the same reasons, less clearly
	}
	objects, err := probeLoad()
	required("hooks", err)
	if err == nil {
		required("attach", probeAttach(root, objects.IsthmusSockops))
		_ = objects.Close()
	}

	err = features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval)
	if err != nil {
		err = fmt.Errorf("%w: refused connections fail with EPERM, not ECONNREFUSED, before Linux 5.18", err)
	}
	s.Checks = append(s.Checks, Check{Name: "errno", Err: err})
	if err = kernelSince(release, 6, 0); err != nil {
		err = fmt.Errorf("%w: the sidecar needs CAP_BPF to open what root attached", err)
	}
	s.Checks = append(s.Checks, Check{Name: "unprivileged", Err: err})
	return s
}

// kernelSince reports a kernel that is older than major.minor, by its release.
func kernelSince(release string, major, minor int) error {
	first, rest, _ := strings.Cut(release, ".")
	second := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		second = rest[:end]
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	if errA != nil || errB != nil {
		return fmt.Errorf("kernel release %q cannot be read", release)
	}
	if a < major || a == major && b < minor {
		return fmt.Errorf("this is Linux %s: %d.%d or newer is needed", release, major, minor)
	}
	return nil
}

// privileged reports the capabilities that this process lacks for Attach; more of
// them are for giving the pins to another user.
func privileged(giving bool) error {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	missing, err := missingCapabilities(string(status), giving)
	if err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf("missing %s: run as root, or with the capabilities that isthmus intercept attach --help lists", strings.Join(missing, ", "))
}

// missingCapabilities returns what a /proc/PID/status lacks, sorted.
func missingCapabilities(status string, giving bool) ([]string, error) {
	_, rest, found := strings.Cut(status, "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return nil, errors.New("cannot read the capabilities of this process in /proc/thread-self/status")
	}
	needs := map[int]string{unix.CAP_NET_ADMIN: "CAP_NET_ADMIN"}
	if caps>>unix.CAP_SYS_ADMIN&1 == 0 { // it holds these two
		needs[unix.CAP_BPF], needs[unix.CAP_PERFMON] = "CAP_BPF", "CAP_PERFMON"
	}
	if giving {
		needs[unix.CAP_CHOWN], needs[unix.CAP_FOWNER], needs[unix.CAP_DAC_OVERRIDE] = "CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"
	}
	var missing []string
	for c, name := range needs {
		if caps>>c&1 == 0 {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// probeBPFFS does not mount: it says what Attach would have to do.
func probeBPFFS() error {
	var at unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &at); err != nil {
		return fmt.Errorf("/sys/fs/bpf: %w: the kernel is built without BPF, or /sys is not mounted", err)
	}
	if at.Type != bpffsMagic && os.Geteuid() != 0 {
		return errors.New("no bpffs on /sys/fs/bpf: run as root, which mounts it, or mount -t bpf bpf /sys/fs/bpf")
	}
	return nil
}

func probeLoad() (*bpf.KernelObjects, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the memlock limit: %w: run as root", err)
	}
	spec, err := parse()
	if err != nil {
		return nil, err
	}
	return load(spec, "", nil)
}

// probeAttach attaches to a cgroup of its own.
func probeAttach(root string, program *ebpf.Program) (err error) {
	cgroup, err := os.MkdirTemp(root, "isthmus-probe-")
	if err != nil {
		return fmt.Errorf("make a cgroup below %s: %w: it must be writable; in a container, mount it so", root, err)
	}
	defer func() { err = errors.Join(err, os.Remove(cgroup)) }()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupSockOps, Program: program})
	if err != nil {
		return fmt.Errorf("attach to cgroup %s: %w", filepath.Base(cgroup), err)
	}
	return l.Close()
}
