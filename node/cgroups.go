package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/interception"
)

// maxDepth is how many directories below the mount of cgroup v2 the parent of all pods is
// looked for: kubelets in containers, and in clusters in clusters, have theirs deeper down.
const maxDepth = 6

// cgroups finds the cgroups of pods. Not safe for concurrent use.
type cgroups struct {
	root    string   // where cgroup v2 is
	parents []string // the kubelet's, whose children are pods and classes of pods
}

// find returns the cgroup of the pod with this UID; false: it is not there.
//
// The kubelet's driver decides how it is called: cgroupfs writes
// kubepods/burstable/pod1f-2e, systemd
// kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f_2e.slice.
// A guaranteed pod has no class in between.
func (c *cgroups) find(uid string) (string, bool) {
	if path, ok := c.among(uid); ok {
		return path, true
	}
	c.parents = parentsBelow(c.root, maxDepth) // of a kubelet that has just started
	return c.among(uid)
}

func (c *cgroups) among(uid string) (string, bool) {
	for _, parent := range c.parents {
		for _, path := range candidates(parent, uid) {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				return path, true
			}
		}
	}
	return "", false
}

// candidates are the paths that a pod may have below a parent.
func candidates(parent, uid string) []string {
	name, systemd := strings.CutSuffix(filepath.Base(parent), ".slice")
	if !systemd {
		return []string{
			filepath.Join(parent, "burstable", "pod"+uid),
			filepath.Join(parent, "besteffort", "pod"+uid),
			filepath.Join(parent, "pod"+uid),
		}
	}
	leaf := "-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
	return []string{
		filepath.Join(parent, name+"-burstable.slice", name+"-burstable"+leaf),
		filepath.Join(parent, name+"-besteffort.slice", name+"-besteffort"+leaf),
		filepath.Join(parent, name+leaf),
	}
}

// parentsBelow lists the directories in which kubelets keep pods.
func parentsBelow(dir string, depth int) (all []string) {
	entries, err := os.ReadDir(dir)
	if err != nil || depth == 0 {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch name := strings.TrimSuffix(e.Name(), ".slice"); {
		case !e.IsDir():
		case name == "kubepods" || strings.HasSuffix(name, "-kubepods"):
			all = append(all, path)
		default:
			all = append(all, parentsBelow(path, depth-1)...)
		}
	}
	return all
}

// mountOfCgroup2 returns where the process of a /proc directory, which sees the host, has
// cgroup v2: alone or beside v1.
func mountOfCgroup2(proc string) (string, error) {
	root, err := interception.CgroupRootOf(proc)
	if errors.Is(err, interception.ErrNoCgroup2) {
		return "", errNoCgroup2
	}
	return filepath.Join(proc, "root", root), err
}

var errNoCgroup2 = errors.New("this node has no cgroup v2, which eBPF programs are attached to: mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), or have pods annotated isthmus.io/interception: init")

// gone reports that something of a process or a cgroup has ended.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
