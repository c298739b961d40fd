package netns

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// spawner starts what lives on.
var spawner = process.NewSpawner()

// start runs argv on a host until it is killed.
func (h *host) start(name string, argv ...string) (*process.Process, error) {
	cmd := h.command(context.Background(), argv...)
	p := &process.Process{Name: name, Args: cmd.Args, Env: cmd.Env, Log: filepath.Join(h.w.dir, name+".log")}
	h.processes = append(h.processes, p)
	return p, p.Start(spawner)
}

// end kills what a host runs, and says what was wrong with it until now.
func (h *host) end() error {
	var err error
	for _, p := range h.processes {
		err = errors.Join(err, p.Err())
		p.Kill()
	}
	return err
}

// logs is the end of each process's log.
func (h *host) logs() string {
	var all strings.Builder
	for _, p := range h.processes {
		fmt.Fprintf(&all, "the end of %s's log:\n%s\n", p.Name, p.Tail(40))
	}
	return all.String()
}
