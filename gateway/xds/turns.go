package xds

import (
	"context"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// turns bounds how many responses are encoded and written at a time: those that are
// ready first go first. A thousand sidecars that come back at once would else have a response
// of up to maxResponse each in memory, and all be late. Who does not read what is sent to
// it holds its turn for maxTurn, and waits by itself then.
type turns chan struct{}

func newTurns() turns { return make(turns, maxSending) }

// send writes a response when its turn has come.
func (t turns) send(ctx context.Context, write func() error) error {
	select { // those that wait for a channel are served in the order in which they came
	case t <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	end := sync.OnceFunc(func() { <-t })
	late := time.AfterFunc(maxTurn, end)
	defer end()
	defer late.Stop()
	return write()
}

// deltaInTurns is an incremental ADS stream that writes when its turn has come.
type deltaInTurns struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	turns turns
}

func (d deltaInTurns) Send(r *discoveryv3.DeltaDiscoveryResponse) error {
	stream := d.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	return d.turns.send(stream.Context(), func() error { return stream.Send(r) })
}

// wholeInTurns is the same of a state-of-the-world stream.
type wholeInTurns struct {
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	turns turns
}

func (w wholeInTurns) Send(r *discoveryv3.DiscoveryResponse) error {
	stream := w.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	return w.turns.send(stream.Context(), func() error { return stream.Send(r) })
}
