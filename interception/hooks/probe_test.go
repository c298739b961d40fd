package hooks

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// needRoot skips without the privilege that the hooks take; continuous integration
// must have it.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Getuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("needs root to load eBPF programs")
	default:
		t.Skip("needs root to load eBPF programs")
	}
}

func TestAMachineThatCanInterceptIsFoundAble(t *testing.T) {
	needRoot(t)
	s := Probe()
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range s.Checks {
		names = append(names, c.Name)
	}
	if want := []string{"kernel", "cgroup", "privilege", "bpffs", "hooks", "attach", "errno", "unprivileged"}; !slices.Equal(names, want) {
		t.Errorf("checked %v", names)
	}
	root, err := CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "isthmus-probe-") {
			t.Errorf("left %s", e.Name())
		}
	}
}

func TestAnOldKernelIsNamed(t *testing.T) {
	for release, ok := range map[string]bool{
		"6.18.44-fc": true, "5.10.0-28-amd64": true, "5.10": true, "6.1+": true,
		"5.9.16": false, "4.19.0": false, "": false, "linux": false, "5": false,
	} {
		if err := kernelSince(release, 5, 10); (err == nil) != ok {
			t.Errorf("%q: %v", release, err)
		}
	}
}

func TestMissingCapabilitiesAreNamed(t *testing.T) {
	for _, c := range []struct {
		status string
		giving bool
		want   string
	}{
		{"CapEff:\t000001ffffffffff\n", true, ""},
		{"CapEff:\t0000000000201000\n", false, ""}, // CAP_SYS_ADMIN holds CAP_BPF and CAP_PERFMON
		{"CapEff:\t000000c000001000\n", false, ""},
		{"CapEff:\t000000c00000100b\n", true, ""},
		{"CapEff:\t0000000000200000\n", false, "CAP_NET_ADMIN"},
		{"CapEff:\t000000c000000000\n", false, "CAP_NET_ADMIN"},
		{"CapEff:\t0000004000001000\n", false, "CAP_BPF"},
		{"CapEff:\t000000c000001000\n", true, "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"},
		{"CapEff:\t0000000000201001\n", true, "CAP_DAC_OVERRIDE CAP_FOWNER"},
	} {
		missing, err := missingCapabilities(c.status, c.giving)
		if got := strings.Join(missing, " "); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	if _, err := missingCapabilities("CapInh:\t0\n", false); err == nil {
		t.Error("a status without capabilities is read")
	}
}

func TestAllThatTheVerifierSaysIsInTheError(t *testing.T) {
	needRoot(t)
	spec, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	spec.Programs[bpf.KernelProgIsthmusConnect4].Instructions = asm.Instructions{
		asm.Mov.Reg(asm.R0, asm.R5), // never written
		asm.Return(),
	}
	_, err = load(spec, "", nil)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{"verifier rejects", "R5 !read_ok", "processed"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
}

func TestADirectoryThatTheUserCannotEnterIsNamed(t *testing.T) {
	needRoot(t)
	closed := filepath.Join(t.TempDir(), "closed")
	inside := filepath.Join(closed, "bpf")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := reachable(inside, 65534, 65534); err == nil || !strings.Contains(err.Error(), closed+" (mode 0700)") {
		t.Errorf("got %v", err)
	}
	if err := reachable(inside, 0, 0); err != nil {
		t.Errorf("its owner: %v", err)
	}
}
