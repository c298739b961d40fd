package hooks

import (
	"errors"
	"strings"
	"testing"
)

const (
	hybrid = `24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 24 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 none rw
`
	unified = `30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
`
)

func TestTheCgroupRootIsFound(t *testing.T) {
	for _, c := range []struct{ mounts, want string }{
		{hybrid, "/sys/fs/cgroup/unified"},
		{unified, "/sys/fs/cgroup"},
		{`1 1 0:1 / /a\040b rw - cgroup2 none rw` + "\n", "/a b"},
	} {
		if got, err := cgroupRoot(strings.NewReader(c.mounts)); err != nil || got != c.want {
			t.Errorf("%q, %v, want %q", got, err, c.want)
		}
	}
	if _, err := cgroupRoot(strings.NewReader("25 24 0:23 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n")); !errors.Is(err, ErrNoCgroup2) {
		t.Errorf("without cgroup v2: %v", err)
	}
}

func FuzzCgroupRoot(f *testing.F) {
	f.Add(hybrid)
	f.Add(unified)
	f.Add("1 - cgroup2 \n")
	f.Fuzz(func(t *testing.T, mounts string) {
		if root, err := cgroupRoot(strings.NewReader(mounts)); err == nil && root == "" {
			t.Error("an empty root")
		}
	})
}
