package sidecar

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestTheCgroupsOfAProcessBoundItsMemory(t *testing.T) {
	const (
		unlimited = "9223372036854771712\n"
		v1Mount   = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
		v2Mount   = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid    = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" + v1Mount + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	for name, c := range map[string]struct {
		cgroup, mounts string
		files          map[string]string
		want           int64
	}{
		"version 2": {"0::/system.slice/isthmus.service\n", v2Mount, map[string]string{
			"sys/fs/cgroup/system.slice/isthmus.service/memory.max": "268435456\n", "sys/fs/cgroup/system.slice/memory.max": "max\n"}, 256 << 20},
		"version 2, of a slice around it": {"0::/a.slice/b/c\n", v2Mount, map[string]string{
			"sys/fs/cgroup/a.slice/b/c/memory.max": "max\n", "sys/fs/cgroup/a.slice/memory.max": "1048576\n"}, 1 << 20},
		"version 2, in a namespace of its own": {"0::/\n", v2Mount, map[string]string{"sys/fs/cgroup/memory.max": "67108864\n"}, 64 << 20},
		"version 2, without a limit":           {"0::/\n", v2Mount, map[string]string{"sys/fs/cgroup/memory.max": "max\n"}, math.MaxInt64},
		"version 1": {"5:cpu,cpuacct:/\n4:memory:/pod/one\n", v1Mount, map[string]string{
			"sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes": unlimited, "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "33554432\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited}, 32 << 20},
		"version 1, whose cgroup is what is mounted": {"4:memory:/docker/0a\n", "35 31 0:32 /docker/0a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "33554432\n", "sys/fs/cgroup/memory/docker/0a/memory.limit_in_bytes": "1\n"}, 32 << 20},
		"both": {"4:memory:/one\n0::/one\n", hybrid, map[string]string{
			"sys/fs/cgroup/memory/one/memory.limit_in_bytes": "33554432\n", "sys/fs/cgroup/unified/one/cgroup.procs": "1\n"}, 32 << 20},
		"none":          {"", "", nil, math.MaxInt64},
		"what is wrong": {"::::\nx\n4:memory\n", "x\n - \n1 2 3 / / - cgroup2\n" + v2Mount + v1Mount, map[string]string{"sys/fs/cgroup/memory.max": "-5\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "many\n"}, math.MaxInt64},
		"a way out":     {"0::/../../etc\n", v2Mount, map[string]string{"sys/fs/cgroup/memory.max": "67108864\n", "etc/memory.max": "1\n", "sys/etc/memory.max": "1\n"}, 64 << 20},
	} {
		files := fstest.MapFS{"proc/self/cgroup": {Data: []byte(c.cgroup)}, "proc/self/mountinfo": {Data: []byte(c.mounts)}}
		for file, text := range c.files {
			files[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := cgroupMemory(files); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}

func TestAProcessMayUseSomeMemory(t *testing.T) {
	if n := memory(); n < 16<<20 || n == math.MaxInt64 {
		t.Errorf("%d bytes", n)
	}
}
