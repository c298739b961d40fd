package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// idle is what a number of connections cost on which nothing is asked.
type idle struct {
	connections int
	before      uint64 // bytes of resident memory of the path, without them
	after       uint64 // with them
}

// each is in bytes.
func (i idle) each() float64 { return (float64(i.after) - float64(i.before)) / float64(i.connections) }

// measureIdle opens connections to each contender, has one request answered on each, and
// reads what they cost once nothing happens any more. Whoever is measured is stopped before the next
// is, and has only served idle connections before.
func (b *bench) measureIdle(ctx context.Context, f *flow) ([][]idle, error) {
	most, err := mostIdle()
	if err != nil {
		return nil, err
	}
	all := make([][]idle, len(f.contenders))
	for i, c := range f.contenders {
		for _, n := range b.opts.idle {
			n = min(n, most)
			m, err := b.holdIdle(ctx, c, n)
			if err != nil {
				return nil, fmt.Errorf("%s, %d idle connections: %w", c.name, n, err)
			}
			all[i] = append(all[i], m)
			fmt.Fprintf(b.log, "%s: %-13s %d connections, %.1f KiB each\n", f.name, c.name, n, m.each()/(1<<10))
		}
		b.stop(c.processes())
	}
	return all, nil
}

// mostIdle is how many connections a proxy can have that needs two descriptors for each.
func mostIdle() (int, error) {
	const others = 400 // descriptors of a proxy that are no such connections
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return (int(min(limit.Max, 1<<20)) - others) / 2, nil
}

func (b *bench) holdIdle(ctx context.Context, c *contender, n int) (idle, error) {
	ctx, cancel := context.WithTimeout(ctx, idleLimit)
	defer cancel()
	o := c.options(0, 0)
	o.Connections = n
	cmd, err := b.part(ctx, holdCommand, job{o, c.url})
	if err != nil {
		return idle{}, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return idle{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return idle{}, err
	}
	stderr := &limited{}
	cmd.Stderr = stderr
	m := idle{connections: n}
	if m.before, err = rssOfAll(c.path); err != nil {
		return idle{}, err
	}
	if err := b.spawn.Start(cmd, c.load.place()); err != nil {
		return idle{}, err
	}
	_, held := bufio.NewReader(stdout).ReadString('\n')
	if held == nil {
		select {
		case <-ctx.Done():
		case <-time.After(b.opts.settle):
		}
		m.after, held = rssOfAll(c.path)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		return idle{}, errors.Join(fmt.Errorf("%w: %s", err, stderr.b), firstDead(c.processes()))
	}
	return m, held
}

// rssOfAll is the resident memory of processes together.
func rssOfAll(ps []*process.Process) (uint64, error) {
	var total uint64
	for _, p := range ps {
		rss, err := rssOf(p.PID())
		if err != nil {
			return 0, err
		}
		total += rss
	}
	return total, nil
}

// limited keeps the first kilobyte of what is written.
type limited struct{ b []byte }

func (l *limited) Write(b []byte) (int, error) {
	l.b = append(l.b, b[:min(len(b), 1024-len(l.b))]...)
	return len(b), nil
}
