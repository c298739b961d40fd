package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// profile has each of a contender's processes that serve profiles make one of its CPU for as long as
// a round lasts, if the user asked for them.
func (b *bench) profile(ctx context.Context, g *errgroup.Group, f *flow, c *contender) {
	for _, p := range c.path {
		if at := b.profiled[p]; at != "" {
			file := filepath.Join(b.opts.profile, fmt.Sprintf("%s-%s-%s.pprof", f.name, c.name, p.Name))
			g.Go(func() error { return fetchProfile(ctx, at, b.opts.seconds, file) })
		}
	}
}

func fetchProfile(ctx context.Context, at string, d time.Duration, file string) error {
	ctx, cancel := context.WithTimeout(ctx, d+roundGrace)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", at, int(d/time.Second)), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}
