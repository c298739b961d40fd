package bed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Freeze stops every process of the cluster, node and pods, between two instructions,
// as a machine that swaps or whose host is busy; its network still acknowledges.
func (c *Cluster) Freeze() error { return c.freezer("FROZEN") }

// Thaw lets them go on.
func (c *Cluster) Thaw() error { return c.freezer("THAWED") }

func (c *Cluster) freezer(state string) error {
	groups, err := os.ReadFile(filepath.Join(c.run, "cgroups"))
	if err != nil {
		return err
	}
	for group := range strings.Lines(string(groups)) {
		file := filepath.Join(strings.TrimSpace(group), "freezer.state")
		if _, err := os.Stat(file); err == nil {
			return os.WriteFile(file, []byte(state), 0)
		}
	}
	return fmt.Errorf("%s has no freezer among %s", c.Name, bytes.TrimSpace(groups))
}

// Cut takes the node's cable out of the network between clusters: nobody is told.
func (c *Cluster) Cut(ctx context.Context) error { return c.link(ctx, "down") }

// Join puts it back.
func (c *Cluster) Join(ctx context.Context) error { return c.link(ctx, "up") }

func (c *Cluster) link(ctx context.Context, state string) error {
	return run(exec.CommandContext(ctx, "ip", "-n", "kube-wan", "link", "set", "kube-"+c.Name, state))
}

// Signal sends a signal ("STOP", "CONT", "KILL") to one of the node's servers
// ("kube-apiserver", "kubelet", "kube-proxy", …). A stopped API server keeps its
// connections and answers nothing.
func (c *Cluster) Signal(ctx context.Context, server, signal string) error {
	pids, err := os.ReadFile(filepath.Join(c.run, "pids"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(pids)) {
		if name, pid, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == server {
			return run(c.NodeCommand(ctx, "kill", "-"+signal, pid))
		}
	}
	return fmt.Errorf("%s runs no %s", c.Name, server)
}
