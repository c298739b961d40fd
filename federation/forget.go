package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// ErrNotForgotten is wrapped by errors of [Federation.Forget] that left everything as
// it was.
var ErrNotForgotten = errors.New("not forgotten")

// Forget drops everything about a cluster, or about one gateway ("west/west-1"), that
// is gone for good, here and on every gateway that takes it from this one: those of our
// own cluster, and all of them when the gateway was of our own. It returns which gateways
// were forgotten, and the clusters that were not asked. None of the gateways may be alive.
// When it is not known here at all the others are not asked. After an error that does not
// wrap [ErrNotForgotten] it is forgotten here and everywhere but where the error says.
func (f *Federation) Forget(ctx context.Context, name string) (ids []mesh.GatewayID, elsewhere []mesh.ClusterName, err error) {
	cluster, gateway, _ := strings.Cut(name, "/")
	var peers []mesh.GatewayID
	f.core.with(func(c *core.Core) {
		ids = c.Matching(mesh.ClusterName(cluster), mesh.GatewayName(gateway))
		err = c.MayForget(ids)
		peers = c.Connected()
	})
	if len(ids) == 0 {
		return nil, nil, fmt.Errorf("%w: no other gateway is known as %s", ErrNotForgotten, name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotForgotten, err)
	}
	f.log.Info("gateways are forgotten, as asked for", "gateways", ids)
	f.core.apply(core.Forget{Gateways: ids})
	asks := func(id mesh.GatewayID) bool { return mayHaveForgotten(f.cfg.Self.Cluster, id.Cluster, ids) }
	view, _ := f.View()
	for i := range view.Gateways {
		if id := view.Gateways[i].ID; !asks(id) && !slices.Contains(ids, id) && !slices.Contains(elsewhere, id.Cluster) {
			elsewhere = append(elsewhere, id.Cluster)
		}
	}
	slices.Sort(elsewhere)
	peers = slices.DeleteFunc(peers, func(id mesh.GatewayID) bool { return !asks(id) })
	faults := make([]error, len(peers))
	var asked sync.WaitGroup
	for i, id := range peers {
		asked.Go(func() {
			if err := f.client.forget(ctx, id, ids); err != nil {
				faults[i] = fmt.Errorf("gateway %s has not forgotten it: %w", id, err)
			}
		})
	}
	asked.Wait()
	return ids, elsewhere, errors.Join(faults...)
}

// mayHaveForgotten reports whether a gateway of cluster asker may have one of cluster asked
// forget gateways: they are of one cluster, or the asker's cluster speaks of its own. Anybody
// else could take a third cluster away that is out of reach for a moment.
func mayHaveForgotten(asker, asked mesh.ClusterName, gateways []mesh.GatewayID) bool {
	return asker == asked || !slices.ContainsFunc(gateways, func(id mesh.GatewayID) bool { return id.Cluster != asker })
}

// serveForget forgets what another gateway was told to.
func (f *Federation) serveForget(w http.ResponseWriter, r *http.Request) {
	names := r.URL.Query()["gateway"]
	ids := make([]mesh.GatewayID, 0, len(names))
	for _, name := range names {
		id, err := mesh.ParseGatewayID(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ids = append(ids, id)
	}
	s, ok := tunnel.StreamFrom(r.Context())
	if !ok || !mayHaveForgotten(s.Peer().Cluster, f.cfg.Self.Cluster, ids) {
		http.Error(w, fmt.Sprintf("only gateways of cluster %s, and of the cluster that is forgotten, may ask for that", f.cfg.Self.Cluster), http.StatusForbidden)
		return
	}
	var err error
	f.core.with(func(c *core.Core) {
		ids = c.Holds(ids)
		err = c.MayForget(ids)
	})
	if len(ids) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	f.log.Info("gateways are forgotten, as another gateway was asked to", "gateway", s.Peer().String(), "gateways", ids)
	f.core.apply(core.Forget{Gateways: ids})
	w.WriteHeader(http.StatusNoContent)
}

// forget has a gateway forget others.
func (c client) forget(ctx context.Context, to mesh.GatewayID, ids []mesh.GatewayID) error {
	for some := range slices.Chunk(ids, maxForgotten) {
		q := url.Values{}
		for _, id := range some {
			q.Add("gateway", id.String())
		}
		err := c.request(ctx, to, http.MethodPost, pathForget+"?"+q.Encode(), nil, func(r *http.Response) error {
			if r.StatusCode == http.StatusConflict || r.StatusCode == http.StatusForbidden {
				b, err := io.ReadAll(io.LimitReader(r.Body, 300))
				if err != nil {
					return err
				}
				return errors.New(strings.TrimSpace(string(b)))
			}
			if r.StatusCode != http.StatusNoContent {
				return answered(r)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
