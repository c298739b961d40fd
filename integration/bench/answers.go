package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/bench/load"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

// answers waits until a contender gives the origin's answer, served by the given processes.
func (b *bench) answers(ctx context.Context, c *contender, ps []*process.Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no good answer after %v", startLimit))
	defer cancel()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var last error // that came before time was up
	for {
		err := b.ask(ctx, c)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if dead := firstDead(ps); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			var logs strings.Builder
			for _, p := range ps {
				fmt.Fprintf(&logs, "\nthe end of the log of %s:\n%s", p.Name, p.Tail(5))
			}
			return fmt.Errorf("%w: %w%s", context.Cause(ctx), last, logs.String())
		case <-poll.C:
		}
	}
}

// ask asks a contender once, as its load would and in the same place.
func (b *bench) ask(ctx context.Context, c *contender) error {
	o := c.options(0, 0)
	o.Connections = 1
	if o.Protocol == load.HTTP1 && c.traffic.program != tcpProgram {
		_, err := b.generate(ctx, c, loneCommand, o) // "Connection: close" is understood too
		return err
	}
	cmd, err := b.part(ctx, holdCommand, job{o, c.url})
	if err != nil {
		return err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
