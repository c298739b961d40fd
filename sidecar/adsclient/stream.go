package adsclient

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/rpcerr"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

type stream = gatewaylink.Stream[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// follow is the ADS loop: one stream, to one gateway after the other, until ctx ends.
func (c *Client) follow(ctx context.Context) {
	gatewaylink.Follow(ctx, c.cfg.Links, gatewaylink.Following{
		Ready: c.waitSubscribed, Stream: c.stream, Log: c.log,
		Never: "this gateway gives no routes", Again: "routes no longer come from this gateway",
	})
}

// waitSubscribed returns when something is subscribed to; false: ctx ended. A sidecar
// without a service and without upstreams needs no ADS stream.
func (c *Client) waitSubscribed(ctx context.Context) bool {
	for {
		names := c.subscribed.clone()
		if len(names) > 0 || c.serves() {
			return true
		}
		c.prune(names)
		for _, l := range c.cfg.Links { // nobody is asked, nothing is wrong
			l.Update(func(s *gatewaylink.Status) { s.ADSError = "" })
		}
		select {
		case <-c.subscribed.changed.C():
		case <-ctx.Done():
			return false
		}
	}
}

// serves reports whether there is a service beside, whose policy is asked for.
func (c *Client) serves() bool { return len(c.subscribed.served()) > 0 }

// stream is one stream from its dial to its end. stood says that routes came. Its
// error is nil when nothing is subscribed to any more.
func (c *Client) stream(ctx context.Context, l *gatewaylink.Link) (stood bool, err error) {
	c.metrics.streams.Inc()
	if err = l.Usable(); err == nil {
		err = gatewaylink.Converse(ctx, l,
			func(ctx context.Context, conn grpc.ClientConnInterface) (grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse], error) {
				return discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
			},
			func(s *stream) error { return c.talk(l, s) })
	}
	l.Update(func(s *gatewaylink.Status) {
		stood, s.ADS = s.ADS, false
		if err != nil {
			s.ADSError = rpcerr.Why(err)
		}
	})
	return stood, err
}

// talk asks the gateway for what is subscribed to and takes what it answers.
func (c *Client) talk(l *gatewaylink.Link, s *stream) error {
	asked, services := c.subscribed.clone(), c.subscribed.served()
	c.prune(asked)
	c.pruneServices(services)
	unanswered, err := c.ask(s, asked, services)
	if err != nil {
		return err
	}
	for {
		select {
		case resp, ok := <-s.Received():
			if !ok {
				return s.Err()
			}
			if err := s.Send(c.accept(resp)); err != nil {
				return err
			}
			unanswered = slices.DeleteFunc(unanswered, func(t string) bool { return t == resp.GetTypeUrl() })
			if len(unanswered) > 0 {
				continue
			}
			if s.Answered() {
				c.log.Info("routes come from this gateway", "gateway", l.Addr())
				c.routesFrom(l)
			}
		case <-c.subscribed.changed.C():
			names := c.subscribed.clone()
			c.prune(names)
			if next := c.subscribed.served(); !slices.Equal(next, services) {
				c.pruneServices(next)
				if err := askPolicies(s, services, next); err != nil {
					return err
				}
				services = next
			}
			if len(names) == 0 && len(services) == 0 {
				return nil
			}
			if err := askChange(s, asked, names); err != nil {
				return err
			}
			asked = names
		}
	}
}

// routesFrom notes that the routes come from l: nothing is wrong any more with the
// gateways that failed before, and nobody asks them while l serves.
func (c *Client) routesFrom(l *gatewaylink.Link) {
	for _, other := range c.cfg.Links {
		other.Update(func(s *gatewaylink.Status) { s.ADS, s.ADSError = other == l, "" })
	}
}

// ask begins a stream: it says what is subscribed to, and what of it we have. It
// returns the types that it asked for, the first request of each of which a gateway
// answers.
func (c *Client) ask(s *stream, names map[string]struct{}, services []mesh.ServiceName) (asked []string, err error) {
	send := func(typeURL string, names ...string) error {
		asked = append(asked, typeURL)
		return s.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node:                    xds.Node(c.cfg.ID),
			TypeUrl:                 typeURL,
			ResourceNamesSubscribe:  names,
			InitialResourceVersions: c.accepted.versions(typeURL),
		})
	}
	if len(services) > 0 { // without names it would ask for everything
		if err := send(xds.PolicyType, namesOf(services)...); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 { // which would ask for everything
		return asked, nil
	}
	subscribe := slices.Sorted(maps.Keys(names))
	for _, typeURL := range routeTypes {
		if err := send(typeURL, subscribe...); err != nil {
			return nil, err
		}
	}
	return asked, nil
}

// askChange says what is subscribed to now that was not before, and the opposite.
func askChange(s *stream, before, now map[string]struct{}) error {
	add, drop := difference(now, before), difference(before, now)
	if len(add) == 0 && len(drop) == 0 {
		return nil
	}
	for _, typeURL := range routeTypes {
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: typeURL, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop,
		}); err != nil {
			return err
		}
	}
	return nil
}

// askPolicies is askChange for the policies of the services beside.
func askPolicies(s *stream, before, now []mesh.ServiceName) error {
	without := func(all, those []mesh.ServiceName) (names []string) {
		for _, name := range all {
			if !slices.Contains(those, name) {
				names = append(names, name.String())
			}
		}
		return names
	}
	return s.Send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: xds.PolicyType, ResourceNamesSubscribe: without(now, before), ResourceNamesUnsubscribe: without(before, now),
	})
}

func namesOf(services []mesh.ServiceName) (names []string) {
	for _, name := range services {
		names = append(names, name.String())
	}
	return names
}

// pruneServices forgets the policies of services that are not beside any more.
func (c *Client) pruneServices(services []mesh.ServiceName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted.retainServices(services)
	for name := range c.applied {
		if !slices.Contains(services, name) {
			delete(c.applied, name)
		}
	}
}

// prune forgets what is not subscribed to any more.
func (c *Client) prune(names map[string]struct{}) {
	c.mu.Lock()
	changed := c.accepted.retain(names)
	c.mu.Unlock()
	if changed {
		c.applyChange()
	}
}

// accept takes a response in and returns what to answer.
func (c *Client) accept(resp *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	c.metrics.responses.Inc()
	size := 0
	for _, r := range resp.GetResources() {
		size += len(r.GetResource().GetValue())
	}
	c.metrics.bytes.Add(float64(size))
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	c.mu.Lock()
	changed, err := c.accepted.take(resp)
	c.mu.Unlock()
	if err != nil {
		c.metrics.nacks.Inc()
		said := bounded(err.Error())
		c.log.Error("what the gateway sent cannot be used, the old state stays", "err", said)
		answer.ErrorDetail = &statusv3.Status{Code: int32(codes.InvalidArgument), Message: said}
	}
	if changed {
		c.applyChange()
	}
	return answer
}

// difference returns the names of a that b does not have, sorted.
func difference(a, b map[string]struct{}) []string {
	var names []string
	for n := range a {
		if _, ok := b[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// bounded returns what of a text, part of which the gateway chose, both logs can take.
func bounded(s string) string {
	if len(s) <= maxFaults {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:maxFaults], ""), len(s))
}
