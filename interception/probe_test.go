package interception

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWithoutPrivilegeAttachSaysWhatIsMissing(t *testing.T) {
	h := newHost(t)
	cmd := h.sidecarProcess(65534)
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], childEnv+"=probe")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"privilege: missing", "CAP_BPF", "CAP_NET_ADMIN", "run as root"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q does not say %q", out, want)
		}
	}
}

func TestABPFFSIsMountedWhereThePinsAre(t *testing.T) {
	h := newHost(t)
	h.attach()
	var at unix.Statfs_t
	if err := unix.Statfs(h.directory, &at); err != nil || at.Type != unix.BPF_FS_MAGIC {
		t.Errorf("%v, type %x", err, at.Type)
	}
}
