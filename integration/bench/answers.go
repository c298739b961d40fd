package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// answers waits until a contender gives the origin's answer, served by the given processes.
func (b *bench) answers(ctx context.Context, c *contender, ps []*process.Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no good answer after %v", startLimit))
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: pollTimeout}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var last error // that came before time was up
	for {
		var err error
		if c.world == nil {
			err = get(ctx, client, c.url)
		} else {
			err = b.getWithin(ctx, c)
		}
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

// get fetches url once; anything but the origin's answer is an error.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 2*bodySize))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(body, []byte(body)) {
		return fmt.Errorf("%s answered %s with %d bytes, %.200q, want 200 with the origin's %d", url, resp.Status, len(body), body, bodySize)
	}
	return nil
}

// getWithin fetches a contender's url once as its load would, in the same place.
func (b *bench) getWithin(ctx context.Context, c *contender) error {
	_, err := b.runLone(ctx, c, 0)
	return err
}
