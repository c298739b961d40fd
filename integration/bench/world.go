package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

// errCannotCapture says why flows in worlds cannot be measured here.
var errCannotCapture = errors.New("this needs root, iproute2 and a kernel with eBPF, nftables and cgroup v2")

// world is where a program lives whose connections go one way: a network namespace
// with an origin and a sidecar, so that conntrack and rules of one way are not felt
// by another, nor by whoever else is on the machine. It serves all flows of a run.
type world struct {
	way        way
	name       string // of the interception and the program's cgroup
	origin     *process.Process
	gateway    *process.Process // nil: no sidecar
	sidecar    *process.Process
	sidecarURL string // of its explicit listener

	program place // set by enter; its network is nil before
}

// world makes the world of a way, or returns the one that there is. It starts nothing.
func (b *bench) world(w way) (*world, error) {
	if have := b.worlds[w.name]; have != nil {
		return have, nil
	}
	if err := canCapture(&b.tools); err != nil {
		return nil, fmt.Errorf("%w: %w", errCannotCapture, err)
	}
	dir := fmt.Sprintf("world-%d", len(b.worlds))
	made := &world{way: w, name: fmt.Sprintf("bench-%d-%d", os.Getpid(), len(b.worlds))}
	var err error
	if made.origin, err = b.newOrigin(filepath.Join(dir, "origin")); err != nil {
		return nil, err
	}
	if w.mode != "" {
		made.gateway, made.sidecar, made.sidecarURL, err = b.oneCluster(dir, requests, w.mode+", name: "+made.name)
		if err != nil {
			return nil, err
		}
		made.sidecar.Name = "sidecar"
		// The load joins this program in its cgroup: acceleration is for a program
		// that the sidecar starts.
		made.sidecar.Args = append(made.sidecar.Args, "--", "sleep", "infinity")
	}
	b.worlds[w.name] = made
	return made, nil
}

// canCapture says what is missing for it.
func canCapture(t *tools) error {
	if os.Geteuid() != 0 {
		return errors.New("not run by root")
	}
	if t.ip == "" {
		return errors.New("ip is not installed: scripts/bench installs it")
	}
	return interception.Probe().Err()
}

// processes returns those that a world has, in the order of starting.
func (w *world) processes() []*process.Process {
	if w.sidecar == nil {
		return []*process.Process{w.origin}
	}
	return []*process.Process{w.origin, w.gateway, w.sidecar}
}

// enter puts a contender's load into its world, which it makes when this is the first.
func (b *bench) enter(ctx context.Context, c *contender) error {
	if c.world.program.netns == nil {
		if err := b.open(ctx, c.world); err != nil {
			return err
		}
	}
	c.load = c.world.program
	return nil
}

// open makes a world's network namespace and cgroup and starts what runs there.
func (b *bench) open(ctx context.Context, w *world) error {
	root, err := interception.CgroupRoot()
	if err != nil {
		return err
	}
	w.program.cpu = b.cpus.load
	if w.program.netns, err = newNetwork(ctx, b.spawn, b.tools.ip); err != nil {
		return err
	}
	if err := addRules(w.program.netns, w.way.rules); err != nil {
		return err
	}
	cgroup := filepath.Join(root, config.CgroupOf(w.name))
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		return fmt.Errorf("make the program's cgroup: %w", err)
	}
	if w.program.cgroup, err = os.Open(cgroup); err != nil {
		return err
	}
	for _, p := range w.processes() {
		at := place{cpu: b.cpus.load, netns: w.program.netns}
		if p == w.sidecar {
			at.cpu = b.cpus.proxies
		}
		p.Place = at.place()
	}
	return b.start(w.processes())
}

// closeWorlds ends what runs in the worlds and removes what would stay: pinned
// hooks and cgroups. A network namespace goes with the last process in it. The
// context may have ended.
func (b *bench) closeWorlds(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	var errs []error
	for _, w := range b.worlds {
		if w.program.netns == nil {
			continue
		}
		b.stop(w.processes())
		w.program.netns.Close()
		if w.program.cgroup == nil {
			continue
		}
		w.program.cgroup.Close()
		if out, err := exec.CommandContext(ctx, b.tools.isthmus, "intercept", "clean", w.name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("isthmus intercept clean %s: %w\n%s", w.name, err, bytes.TrimSpace(out)))
		}
	}
	return errors.Join(errs...)
}
