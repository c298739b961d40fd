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
	"strconv"
	"strings"
	"time"
)

//go:embed wrk.lua
var wrkScript []byte

// load is what one run of wrk saw.
type load struct {
	requests uint64
	duration time.Duration
	p50, p99 time.Duration
	cpu      time.Duration // that wrk itself used
}

// runLoad sends requests to url for d over all connections. An answer that did
// not come or was not a success is an error: the figures of a run that lost
// requests say nothing.
func (b *bench) runLoad(ctx context.Context, url string, d time.Duration) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, d+roundGrace)
	defer cancel()
	script := filepath.Join(b.dir, "wrk.lua")
	if err := os.WriteFile(script, wrkScript, 0o600); err != nil {
		return load{}, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, b.tools.wrk, "-t1", "-c"+strconv.Itoa(connections), "-d"+seconds(d),
		"--timeout", seconds(loadTimeout), "-s", script, url)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := b.spawn.start(cmd, b.cpus.load); err != nil {
		return load{}, fmt.Errorf("start wrk: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return load{}, fmt.Errorf("wrk %s: %w", url, context.Cause(ctx))
		}
		return load{}, fmt.Errorf("wrk %s: %w\n%s", url, err, bytes.TrimSpace(out.Bytes()))
	}
	l, err := parseLoad(out.String())
	if err != nil {
		return load{}, fmt.Errorf("wrk %s: %w", url, err)
	}
	l.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return l, nil
}

// parseLoad reads the line that wrk.lua writes.
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
