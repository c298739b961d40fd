package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/bench/load"
)

// loadSample is what one run of a load generator saw.
type loadSample struct {
	load.Result
	cpu time.Duration // that the generator itself used
}

// options are those of a contender's load.
func (c *contender) options(d time.Duration, rate float64) load.Options {
	return load.Options{Protocol: c.traffic.protocol, Connections: c.traffic.connections, Streams: c.traffic.streams,
		Answer: body, Rate: rate, Duration: d, Timeout: loadTimeout, Reconnect: c.reconnect}
}

// runLoad sends requests to a contender for d over all connections: as many as are answered, or
// at a rate. An answer that did not come or was not a success is an error: the figures of a run that lost
// requests say nothing.
func (b *bench) runLoad(ctx context.Context, c *contender, d time.Duration, rate float64) (loadSample, error) {
	return b.generate(ctx, c, loadCommand, c.options(d, rate))
}

// runLone sends requests to a contender for d, and at least one, on one new
// connection after another.
func (b *bench) runLone(ctx context.Context, c *contender, d time.Duration) (loadSample, error) {
	return b.generate(ctx, c, loneCommand, c.options(d, 0))
}

// generate runs a load generator on a contender.
func (b *bench) generate(ctx context.Context, c *contender, command string, o load.Options) (loadSample, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Duration+roundGrace)
	defer cancel()
	cmd, err := b.part(ctx, command, job{o, c.url})
	if err != nil {
		return loadSample{}, err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := b.spawn.Start(cmd, c.load.place()); err != nil {
		return loadSample{}, fmt.Errorf("start %s: %w", command, err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return loadSample{}, fmt.Errorf("%s %s: %w", command, c.url, context.Cause(ctx))
		}
		return loadSample{}, fmt.Errorf("%s %s: %w\n%s", command, c.url, err, bytes.TrimSpace(out.Bytes()))
	}
	s := loadSample{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	err = json.Unmarshal(out.Bytes(), &s.Result)
	if err == nil && s.Requests == 0 {
		err = errors.New("no request was answered")
	}
	if err != nil {
		return loadSample{}, fmt.Errorf("%s %s: %w: %s", command, c.url, err, bytes.TrimSpace(out.Bytes()))
	}
	return s, nil
}

// part is this program as one of its parts.
func (b *bench) part(ctx context.Context, command string, args any) (*exec.Cmd, error) {
	a, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, b.tools.self, command, string(a)), nil
}
