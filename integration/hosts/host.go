package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// Host is a network namespace and what runs there. Not safe for concurrent use.
type Host struct {
	Name    string
	Cluster Network
	Number  int

	processes []*process.Process
}

// New makes a host with a cable into its cluster's network.
func New(name string, cluster Network, number int) (*Host, error) {
	h := &Host{Name: name, Cluster: cluster, Number: number}
	if err := IP("", "netns add "+Namespace(name)); err != nil {
		return nil, err
	}
	return h, h.Plug("eth0", name, cluster, number)
}

// Address is the host's in its cluster.
func (h *Host) Address() string { return h.Cluster.V4(h.Number) }

// Plug adds a cable: an interface of the host, and cable on the switch's side.
func (h *Host) Plug(device, cable string, n Network, number int) error {
	err := IP(Namespace(h.Name),
		"link set lo up",
		fmt.Sprintf("link add %s type veth peer name %s netns %s", device, cable, Namespace(TheSwitch)),
		fmt.Sprintf("addr add %s/24 dev %s", n.V4(number), device),
		fmt.Sprintf("addr add %s/64 dev %s nodad", n.V6(number), device),
		fmt.Sprintf("link set %s up", device))
	if err != nil {
		return err
	}
	return IP(Namespace(TheSwitch), fmt.Sprintf("link set %s master %s up", cable, n.Name))
}

// Command runs argv in the host's network. Of the rest it sees what we see: `ip
// netns exec` would hide cgroup v2 and the bpffs.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + namespaceFile(h.Name), "--"}, argv...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // for what is this test binary
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = time.Second
	return cmd
}

// Start runs argv on the host until it is killed. Its log is NAME.log in [Dir].
func (h *Host) Start(s *process.Spawner, name string, argv ...string) (*process.Process, error) {
	return h.StartAt(s, process.Place{}, name, argv...)
}

// StartAt is [Host.Start] in a place, whose network is the host's in any case.
func (h *Host) StartAt(s *process.Spawner, at process.Place, name string, argv ...string) (*process.Process, error) {
	cmd := h.Command(context.Background(), argv...)
	p := &process.Process{Name: name, Args: cmd.Args, Env: cmd.Env, Log: filepath.Join(Dir(), name+".log"), Place: at}
	h.processes = append(h.processes, p)
	return p, p.Start(s)
}

// End kills what the host runs, and says what was wrong with it until now.
func (h *Host) End() error {
	var err error
	for _, p := range h.processes {
		err = errors.Join(err, p.Err())
		p.Kill()
	}
	return err
}

// Logs is the end of each process's log.
func (h *Host) Logs() string {
	var all strings.Builder
	for _, p := range h.processes {
		fmt.Fprintf(&all, "the end of %s's log:\n%s\n", p.Name, p.Tail(40))
	}
	return all.String()
}

// Remove removes a host that nothing needs any more, and its cable.
func (h *Host) Remove() error {
	return errors.Join(depopulate(Namespace(h.Name)), IP(Namespace(TheSwitch), "link delete "+h.Name), IP("", "netns delete "+Namespace(h.Name)))
}
