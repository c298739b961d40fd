package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// Parts says how much of a cluster there is.
type Parts string

// A cluster with a node and pods, and one that has its API only: that is enough for
// much, and costs a third.
const (
	Full    Parts = "full"
	Control Parts = "control"
)

// Cluster is a running Kubernetes cluster of one node. Safe for concurrent use.
type Cluster struct {
	Name string
	Node netip.Addr // reachable from other clusters and by [Command]

	bed *Bed
	run string // directory of its state
	pid int    // its first process
}

// Start starts a cluster and waits until its API answers, its node is ready, and its
// DNS is created. Index is its own, from 1 to 200; name has 10 letters at most.
func (b *Bed) Start(ctx context.Context, name string, index int, parts Parts) (*Cluster, error) {
	if err := b.script(ctx, "up", name, strconv.Itoa(index), string(parts)); err != nil {
		return nil, err
	}
	c := &Cluster{Name: name, Node: netip.AddrFrom4([4]byte{10, 210, 0, byte(index)}), bed: b, run: filepath.Join(b.dir, "run", name)}
	pid, err := os.ReadFile(filepath.Join(c.run, "pid"))
	if err != nil {
		return nil, err
	}
	c.pid, err = strconv.Atoi(strings.TrimSpace(string(pid)))
	return c, err
}

// Stop ends the cluster: node and pods die at once, as by a power cut.
func (c *Cluster) Stop(ctx context.Context) error { return c.bed.script(ctx, "down", c.Name) }

// Kubeconfig is the file of an administrator's access; its address is reached by
// [Command].
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.run, "pki/admin.conf") }

// Kubectl runs kubectl with input and returns its output.
func (c *Cluster) Kubectl(ctx context.Context, input string, args ...string) (string, error) {
	cmd := c.KubectlCommand(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	return output(cmd)
}

// KubectlCommand is kubectl as a command that the caller starts: `logs -f`, say.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	return Command(ctx, append([]string{c.bed.Program("kubectl"), "--kubeconfig", c.Kubeconfig()}, args...)...)
}

// Helm runs helm against the cluster and returns its output.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	return output(Command(ctx, append([]string{c.bed.Program("helm"), "--kubeconfig", c.Kubeconfig()}, args...)...))
}

// Apply creates or changes what manifests say, which the API server judges strictly.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	_, err := c.Kubectl(ctx, manifests, "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-")
	return err
}

// Get reads one object, or a list, into a value as its JSON is.
func (c *Cluster) Get(ctx context.Context, into any, args ...string) error {
	out, err := c.Kubectl(ctx, "", append(append([]string{"get"}, args...), "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// Exec runs a program in a pod's container (namespace/pod or namespace/deploy/name;
// container may be empty) and returns its output.
func (c *Cluster) Exec(ctx context.Context, pod, container string, argv ...string) (string, error) {
	namespace, name, _ := strings.Cut(pod, "/")
	args := []string{"-n", namespace, "exec", name}
	if container != "" {
		args = append(args, "-c", container)
	}
	return c.Kubectl(ctx, "", append(append(args, "--"), argv...)...)
}

// Rollout waits until a Deployment, StatefulSet or DaemonSet ("deploy/orders") is what it says.
func (c *Cluster) Rollout(ctx context.Context, namespace, what string) error {
	_, err := c.Kubectl(ctx, "", "-n", namespace, "rollout", "status", what, "--timeout", "180s")
	return err
}

// Eventually is [harness.Eventually] of a kubectl command's output.
func (c *Cluster) Eventually(ctx context.Context, check func(out string) error, args ...string) error {
	return harness.Eventually(func() error {
		out, err := c.Kubectl(ctx, "", args...)
		if err != nil {
			return err
		}
		if err := check(out); err != nil {
			return fmt.Errorf("kubectl %s: %w in %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
}

// LoadImage gives the node an image's archive, as a pull would.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	return run(c.NodeCommand(ctx, c.bed.Program("ctr"), "-n", "k8s.io", "images", "import", archive))
}

// NodeCommand runs a program on the node: its processes, network, mounts and cgroups.
func (c *Cluster) NodeCommand(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(c.pid), "-a", "--"}, argv...)...)
}

// PodCommand runs a program of this machine in the network namespace of a pod (uid) of this
// node, and leaves no trace in its cgroup.
func (c *Cluster) PodCommand(ctx context.Context, namespace, pod string, argv ...string) (*exec.Cmd, error) {
	out, err := output(c.NodeCommand(ctx, c.bed.Program("ctr"), "-n", "k8s.io", "containers", "list", "-q",
		fmt.Sprintf(`labels."io.kubernetes.pod.namespace"==%s,labels."io.kubernetes.pod.name"==%s,labels."io.cri-containerd.kind"==sandbox`, namespace, pod)))
	if err != nil {
		return nil, err
	}
	sandbox := strings.TrimSpace(out)
	out, err = output(c.NodeCommand(ctx, c.bed.Program("ctr"), "-n", "k8s.io", "tasks", "list"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 1 && sandbox != "" && fields[0] == sandbox {
			return c.NodeCommand(ctx, append([]string{"nsenter", "-t", fields[1], "-n", "--"}, argv...)...), nil
		}
	}
	return nil, fmt.Errorf("%s/%s has no sandbox on %s", namespace, pod, c.Name)
}

// PodLog is what a pod's container has written, read from the node's disk: the API server is
// not asked.
func (c *Cluster) PodLog(namespace, pod, container string) (string, error) {
	files, err := filepath.Glob(filepath.Join(c.run, "fs/var/log/pods", namespace+"_"+pod+"_*", container, "*.log"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("%s: %s/%s has written no log of %s", c.Name, namespace, pod, container)
	}
	var all strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(content)) { // TIME STREAM F|P TEXT, as the CRI says
			if fields := strings.SplitN(line, " ", 4); len(fields) == 4 {
				all.WriteString(fields[3])
			}
		}
	}
	return all.String(), nil
}

// Describe writes what an investigation begins with to dir: all pods and events, the
// logs of every container, and those of the cluster's servers.
func (c *Cluster) Describe(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir = filepath.Join(dir, c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	errs := os.CopyFS(filepath.Join(dir, "node"), os.DirFS(filepath.Join(c.run, "log")))
	for file, args := range map[string][]string{
		"pods.txt":      {"get", "pods,services,endpointslices", "-A", "-o", "wide"},
		"describe.txt":  {"describe", "pods", "-A"},
		"events.txt":    {"get", "events", "-A", "--sort-by", ".lastTimestamp"},
		"isthmus.yaml":  {"get", "serviceexports,serviceimports", "-A", "-o", "yaml"},
		"nodes.txt":     {"describe", "nodes"},
		"webhooks.yaml": {"get", "mutatingwebhookconfigurations", "-o", "yaml"},
	} {
		out, err := c.Kubectl(ctx, "", args...)
		if err != nil {
			out += err.Error()
		}
		errs = errors.Join(errs, os.WriteFile(filepath.Join(dir, file), []byte(out), 0o644))
	}
	// What the kubelet keeps of every container, also of those that are gone from the API.
	logs := filepath.Join(c.run, "fs/var/log/pods")
	err := filepath.WalkDir(logs, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(logs, path)
		if err != nil {
			return err
		}
		const most = 4 << 20 // of a log
		if len(content) > most {
			content = append([]byte("… the beginning is left out\n"), content[len(content)-most:]...)
		}
		return os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "_")), bytes.TrimSpace(content), 0o644)
	})
	return errors.Join(errs, err)
}
