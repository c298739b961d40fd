package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/internal/process"
	"golang.org/x/sys/unix"
)

// place is where a program runs.
type place struct {
	cpu    int      // the core that it is bound to, or anyCPU
	netns  *os.File // its network namespace; nil: the benchmark's
	cgroup *os.File // nil: the benchmark's
}

// place is the same for who starts the program.
func (at place) place() process.Place {
	return process.Place{Cgroup: at.cgroup, Thread: func(start func() error) error {
		if err := bind(at.cpu); err != nil {
			return err
		}
		if at.netns == nil {
			return start()
		}
		return inNetwork(at.netns, start)
	}}
}

// newProcess returns a program that has its log in its directory.
func newProcess(name, dir string, at place, args ...string) *process.Process {
	return &process.Process{Name: name, Args: args, Log: filepath.Join(dir, "log"), Place: at.place()}
}

// anyCPU leaves the choice of core to the scheduler.
const anyCPU = -1

// cpus says who runs where.
type cpus struct {
	load    int // the load, the origin, and processes that carry no traffic
	proxies int
}

// chooseCPUs gives the load one core and the proxies another, so that both
// have the same on every machine. With one core there is nothing to choose.
func chooseCPUs() (cpus, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cpus{}, fmt.Errorf("ask for this process's cores: %w", err)
	}
	var allowed []int
	for cpu := 0; len(allowed) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	if len(allowed) < 2 {
		return cpus{anyCPU, anyCPU}, nil
	}
	return cpus{load: allowed[0], proxies: allowed[1]}, nil
}

// bind moves the calling thread to a core.
func bind(cpu int) error {
	if cpu == anyCPU {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to core %d: %w", cpu, err)
	}
	return nil
}

// firstDead returns the errors of the processes that have ended.
func firstDead(ps []*process.Process) error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.Err())
	}
	return errors.Join(errs...)
}
