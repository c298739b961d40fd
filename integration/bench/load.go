package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed wrk.lua
var wrkScript []byte

// load is what one run of a load generator saw.
type load struct {
	requests uint64
	duration time.Duration
	p50, p99 time.Duration
	cpu      time.Duration // that the generator itself used
}

// runLoad sends requests to a contender for d over all connections. An answer that did
// not come or was not a success is an error: the figures of a run that lost
// requests say nothing.
func (b *bench) runLoad(ctx context.Context, c *contender, d time.Duration) (load, error) {
	script := filepath.Join(b.dir, "wrk.lua")
	if err := os.WriteFile(script, wrkScript, 0o600); err != nil {
		return load{}, err
	}
	args := []string{"-t1", "-c" + strconv.Itoa(connections), "-d" + seconds(d), "--timeout", seconds(loadTimeout), "-s", script, c.url}
	if c.reconnect {
		args = slices.Insert(args, 0, "-H", "Connection: close")
	}
	return b.generate(ctx, c, d, b.tools.wrk, args...)
}

// runLone sends requests to a contender for d, and at least one, on one new
// connection after another.
func (b *bench) runLone(ctx context.Context, c *contender, d time.Duration) (load, error) {
	return b.generate(ctx, c, d, b.tools.self, loneCommand, d.String(), c.url)
}

// generate runs a load generator on a contender.
func (b *bench) generate(ctx context.Context, c *contender, d time.Duration, program string, args ...string) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, d+roundGrace)
	defer cancel()
	name := filepath.Base(program)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := b.spawn.Start(cmd, c.load.place()); err != nil {
		return load{}, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return load{}, fmt.Errorf("%s %s: %w", name, c.url, context.Cause(ctx))
		}
		return load{}, fmt.Errorf("%s %s: %w\n%s", name, c.url, err, bytes.TrimSpace(out.Bytes()))
	}
	l, err := parseLoad(out.String())
	if err != nil {
		return load{}, fmt.Errorf("%s %s: %w", name, c.url, err)
	}
	l.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return l, nil
}

// parseLoad reads the line that wrk.lua and lone write.
func parseLoad(out string) (load, error) {
	for line := range strings.Lines(out) {
		fields, ok := strings.CutPrefix(line, "result ")
		if !ok {
			continue
		}
		var n [9]uint64
		f := strings.Fields(fields)
		if len(f) != len(n) {
			return load{}, fmt.Errorf("%d figures in %q, want %d", len(f), line, len(n))
		}
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				return load{}, fmt.Errorf("figure %d of %q: %w", i+1, line, err)
			}
		}
		for i, what := range []string{"connects", "reads", "writes", "answers in time", "good statuses"} {
			if failed := n[4+i]; failed > 0 {
				return load{}, fmt.Errorf("%d of %d requests failed: no %s", failed, n[0], what)
			}
		}
		if n[0] == 0 {
			return load{}, errors.New("no request was answered")
		}
		return load{requests: n[0], duration: micro(n[1]), p50: micro(n[2]), p99: micro(n[3])}, nil
	}
	return load{}, fmt.Errorf("no result in its output: %s", strings.TrimSpace(out))
}

func micro(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }

func seconds(d time.Duration) string { return strconv.Itoa(int(d/time.Second)) + "s" }
