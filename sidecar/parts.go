package sidecar

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// parts are what runs together: the first that fails ends all.
type parts struct {
	*errgroup.Group
	ctx context.Context // over when one has failed, or from outside
}

func newParts(ctx context.Context) *parts {
	group, ctx := errgroup.WithContext(ctx)
	return &parts{group, ctx}
}

// start runs a part; its error is told with its name.
func (p *parts) start(name string, run func(context.Context) error) {
	p.Go(func() error {
		if err := run(p.ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// await waits for done; false: the parts end first.
func (p *parts) await(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-p.ctx.Done():
		return false
	}
}
