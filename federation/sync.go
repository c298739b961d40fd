package federation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// sync brings one live peer and this gateway together.
func (f *Federation) sync(ctx context.Context, id mesh.GatewayID) {
	done := core.Synced{Gateway: id}
	if l, err := f.catalogSync(ctx, id); err != nil {
		done.Err = err
	} else {
		done.Origins, done.Advertise, done.MeshAddress = l.Origins, l.Advertise, l.MeshAddress
	}
	f.core.apply(done)
}

// catalogSync joins a gateway in gossip and asks it for its versions.
func (f *Federation) catalogSync(ctx context.Context, id mesh.GatewayID) (*versionList, error) {
	var join bool
	f.core.with(func(c *core.Core) { join = c.MustJoin(id, time.Now()) })
	if join {
		if _, err := f.list.Load().Join([]string{gossip.JoinAddress(id)}); err != nil {
			return nil, fmt.Errorf("join gossip: %w", firstOf(err))
		}
	}
	l, err := f.client.versions(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("ask for its catalogs: %w", err)
	}
	return l, nil
}

// firstOf returns the error in memberlist's list of one, which is written over
// several lines.
func firstOf(err error) error {
	if first := errors.Unwrap(err); first != nil {
		return first
	}
	return err
}
