package gateway

import (
	"context"
	"net"
	"slices"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// siblingAddresses are where the other gateways of this cluster are dialled, sorted: their
// pods' addresses, ready or not, since one that is alone waits for another to be ready.
func siblingAddresses(list []*discoveryv1.EndpointSlice, self string) []string {
	var all []string
	for _, s := range list {
		port := int32(0)
		for _, p := range s.Ports {
			if p.Name != nil && *p.Name == "tunnel" && p.Port != nil {
				port = *p.Port
			}
		}
		for _, e := range s.Endpoints {
			if port == 0 || e.TargetRef == nil || e.TargetRef.Name == self || len(e.Addresses) == 0 {
				continue
			}
			all = append(all, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(port))))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// followSiblings has this gateway keep tunnels to the others of its cluster, wherever
// their pods are.
func (g *Gateway) followSiblings(ctx context.Context) error {
	for {
		all, past := g.kubernetes.siblings.Snapshot()
		if all != nil {
			addresses := siblingAddresses(all, string(g.cfg.Name))
			if was := g.siblings.Swap(&addresses); was == nil || !slices.Equal(*was, addresses) {
				g.setJoin()
			}
		}
		if !state.Await(ctx, past) {
			return nil
		}
	}
}

// setJoin tells the federation whom to keep tunnels to: those of the configuration that
// is in force, and the siblings.
func (g *Gateway) setJoin() {
	join := g.inForce.Load().Join
	if siblings := g.siblings.Load(); siblings != nil {
		join = slices.Concat(join, *siblings)
	}
	g.federation.SetJoin(join)
}
