package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAPodsCgroupIsFoundWhateverTheDriverAndWhereverTheKubeletHasIt(t *testing.T) {
	const uid = "1f920ffc-ffd5-4f34-a339-86a45244f233"
	const underscores = "1f920ffc_ffd5_4f34_a339_86a45244f233"
	for _, path := range []string{
		"kubepods/pod" + uid,
		"kubepods/burstable/pod" + uid,
		"kubepods/besteffort/pod" + uid,
		"kubelet/kubepods/besteffort/pod" + uid,
		"kubepods.slice/kubepods-pod" + underscores + ".slice",
		"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + underscores + ".slice",
		"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + underscores + ".slice",
		"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + underscores + ".slice",
	} {
		root := t.TempDir()
		c := cgroups{root: root}
		if err := os.MkdirAll(filepath.Join(root, "system.slice/kubelet.service"), 0o755); err != nil {
			t.Fatal(err)
		}
		if at, ok := c.find(uid); ok {
			t.Errorf("found at %s before it is there", at)
		}
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if at, ok := c.find(uid); !ok || at != filepath.Join(root, path) {
			t.Errorf("%s: found %q, %v", path, at, ok)
		}
		if at, ok := c.find("2" + uid[1:]); ok {
			t.Errorf("another pod is found at %s", at)
		}
	}
}

func TestTheMountOfCgroup2IsFoundBesideThatOfVersion1(t *testing.T) {
	proc := t.TempDir()
	for table, want := range map[string]string{
		"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n":                                                                "root/sys/fs/cgroup",
		"33 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n42 25 0:39 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n": "root/sys/fs/cgroup/unified",
		"33 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n":                                                                        "",
	} {
		if err := os.WriteFile(filepath.Join(proc, "mountinfo"), []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
		at, err := mountOfCgroup2(proc)
		if want == "" && err != errNoCgroup2 || want != "" && at != filepath.Join(proc, want) {
			t.Errorf("%q: %q, %v, want %q", table, at, err, want)
		}
	}
}
