package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// errStreamEnded says that a gateway ended a stream with status OK: it is leaving,
// or it confirms a withdrawal.
var errStreamEnded = errors.New("the gateway ended the stream")

// adsLoop keeps one ADS stream open, to one gateway after the other, until ctx
// ends. A stream that ends is replaced at once by one to the next gateway; only
// when the whole list has failed in a row is there a pause.
func (c *Client) adsLoop(ctx context.Context) {
	at := rand.IntN(len(c.links)) // spreads the sidecars over the gateways
	failed := 0
	var b backoff
	for ctx.Err() == nil {
		if !c.waitWanted(ctx) {
			return
		}
		l := c.links[at]
		began := time.Now()
		err := c.adsStream(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > stableAfter {
			failed = 0
			b.reset()
		}
		if err != nil {
			c.log.Warn("routes no longer come from this gateway", "peer", l.addr, "err", err)
		}
		at = (at + 1) % len(c.links)
		if failed++; failed >= len(c.links) {
			failed = 0
			if !pause(ctx, b.next()) {
				return
			}
		}
	}
}

// waitWanted returns when something is subscribed to; false: ctx ended. A sidecar
// without upstreams needs no ADS stream.
func (c *Client) waitWanted(ctx context.Context) bool {
	for {
		if len(c.wantedNames()) > 0 {
			return true
		}
		c.prune(nil)
		select {
		case <-c.wake:
		case <-ctx.Done():
			return false
		}
	}
}

func (c *Client) wantedNames() map[string]struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.wanted)
}

// prune forgets what is not wanted any more.
func (c *Client) prune(wanted map[string]struct{}) {
	routes, absent := len(c.accepted.routes), len(c.accepted.absent)
	c.accepted.forget(func(name string) bool {
		_, ok := wanted[name]
		return ok
	})
	if len(c.accepted.routes) != routes || len(c.accepted.absent) != absent {
		c.apply()
		c.keep()
	}
}

// adsStream is one stream from its dial to its end. Its error is nil when nothing
// is wanted any more.
func (c *Client) adsStream(ctx context.Context, l *link) (err error) {
	conn, err := l.acquire()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	received := make(chan *discoveryv3.DeltaDiscoveryResponse)
	ended := make(chan error, 1)
	receiving := false
	defer func() {
		cancel(nil)
		if receiving {
			for range received { // the receiver closes it as it leaves
			}
		}
		l.release(conn, breaks(err))
		c.note(l, func(s *GatewayStatus) {
			s.ADS = false
			if err != nil {
				s.LastError = err.Error()
			}
		})
	}()
	limit := time.AfterFunc(answerLimit, func() { cancel(fmt.Errorf("no answer within %s: frozen or overloaded?", answerLimit)) })
	defer limit.Stop()

	c.metrics.streams.Inc()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return causeOf(ctx, err)
	}
	receiving = true
	go func() {
		defer close(received)
		for {
			resp, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case received <- resp:
			case <-ctx.Done():
				return
			}
		}
	}()

	asked := c.wantedNames()
	c.prune(asked)
	names := slices.Sorted(maps.Keys(asked))
	node := xds.Node(c.cfg.Identity.ID().String())
	unanswered := map[string]bool{}
	for _, typeURL := range []string{xds.ClusterType, xds.EndpointType} {
		unanswered[typeURL] = true
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node:                    node,
			TypeUrl:                 typeURL,
			ResourceNamesSubscribe:  names,
			InitialResourceVersions: c.accepted.versions(typeURL),
		}); err != nil {
			return c.sendError(ctx, ended, err)
		}
	}
	for {
		select {
		case resp, ok := <-received:
			if !ok {
				return c.sendError(ctx, ended, io.EOF)
			}
			if err := stream.Send(c.accept(resp)); err != nil {
				return c.sendError(ctx, ended, err)
			}
			if delete(unanswered, resp.GetTypeUrl()); len(unanswered) == 0 && limit.Stop() {
				c.log.Info("routes come from this gateway", "peer", l.addr)
				c.note(l, func(s *GatewayStatus) { s.ADS, s.LastError = true, "" })
			}
			if len(unanswered) == 0 {
				c.checkSynced()
			}
		case <-c.wake:
			wanted := c.wantedNames()
			if len(wanted) == 0 {
				c.prune(nil)
				return nil
			}
			add, drop := difference(wanted, asked), difference(asked, wanted)
			asked = wanted
			c.prune(wanted)
			if len(add) == 0 && len(drop) == 0 {
				continue
			}
			for _, typeURL := range []string{xds.ClusterType, xds.EndpointType} {
				if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
					TypeUrl:                  typeURL,
					ResourceNamesSubscribe:   add,
					ResourceNamesUnsubscribe: drop,
				}); err != nil {
					return c.sendError(ctx, ended, err)
				}
			}
		case <-ctx.Done():
			return causeOf(ctx, ctx.Err())
		}
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
	changed, err := c.accepted.take(resp)
	if err != nil {
		c.metrics.nacks.Inc()
		c.log.Error("what the gateway sent cannot be used, the old state stays", "err", err)
		answer.ErrorDetail = &statusv3.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
	}
	if changed {
		c.apply()
		c.keep()
	}
	return answer
}

// checkSynced closes synced when every declared destination is answered.
func (c *Client) checkSynced() {
	select {
	case <-c.synced:
		return
	default:
	}
	for _, d := range c.cfg.Subscribe {
		if !c.accepted.answered(d.String()) {
			return
		}
	}
	close(c.synced)
}

// sendError returns why a stream ended: gRPC says it to the receiver only.
func (c *Client) sendError(ctx context.Context, ended <-chan error, err error) error {
	if !errors.Is(err, io.EOF) {
		return causeOf(ctx, err)
	}
	select {
	case err = <-ended:
		if errors.Is(err, io.EOF) {
			err = errStreamEnded
		}
	case <-ctx.Done():
	}
	return causeOf(ctx, err)
}

// causeOf prefers the reason for which we ended the stream ourselves.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
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
