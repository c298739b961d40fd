package forward

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// race tries the candidates of one path until the first succeeds. One goroutine
// calls its methods; those of the attempts report to results.
type race struct {
	f     *Forward
	req   *Request
	early *early

	waiting []Candidate // not tried yet
	running []*attempt
	failed  []*attempt
	results chan *attempt
	won     atomic.Bool
	hedge   *time.Timer // fires when the last attempt has had its time
}

// run returns the attempt that won, whose connection and load count are the
// caller's to release, or why none did. ctx bounds the path, not only its
// setup: the winner's payload is written under it.
func (r *race) run(ctx context.Context, candidates []Candidate) (*attempt, *connect.Refusal) {
	r.waiting = slices.Clone(candidates)
	r.results = make(chan *attempt, len(candidates))
	broken, unwatch := r.watchClient(ctx)
	defer unwatch()
	setup := time.NewTimer(setupTimeout)
	defer setup.Stop()
	r.hedge = time.NewTimer(setupTimeout)
	defer r.hedge.Stop()

	r.next(ctx)
	for {
		select {
		case a := <-r.results:
			r.running = slices.DeleteFunc(r.running, func(b *attempt) bool { return b == a })
			if a.refusal == nil {
				r.cancel(errLost)
				return a, nil
			}
			r.lost(a)
			if len(r.waiting) > 0 {
				r.f.metrics.retries.Inc()
				r.next(ctx)
			} else if len(r.running) == 0 {
				return nil, combine(r.req, r.failed)
			}
		case <-r.hedge.C:
			if len(r.waiting) > 0 {
				r.f.metrics.hedges.Inc()
				r.next(ctx)
			}
		case err := <-broken:
			if err == nil { // ctx ended
				err = context.Cause(ctx)
			}
			r.abandon(err)
			return nil, clientRefusal(err)
		case <-setup.C:
			return nil, r.timedOut()
		case <-ctx.Done():
			r.abandon(context.Cause(ctx))
			return nil, clientRefusal(context.Cause(ctx))
		}
	}
}

// watchClient watches the client meanwhile: when it goes or sends what is not
// TLS, nobody needs to be dialled any more. The channel gives what it did wrong,
// nil when ctx ended first. stop waits for the goroutine.
func (r *race) watchClient(ctx context.Context) (broken <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	wrong := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wrong <- r.early.broken(ctx)
	}()
	return wrong, func() {
		cancel()
		<-ended
	}
}

// next tries the candidate that is first in the line.
func (r *race) next(ctx context.Context) {
	c := r.waiting[0]
	r.waiting = r.waiting[1:]
	r.start(ctx, c)
	r.hedge.Reset(max(minHedge, hedgeRTTs*c.RTT))
}

// lost notes that an attempt failed. When a far gateway has said that its cluster
// cannot serve, the others of that cluster are tried last; not when it said that it
// cannot itself.
func (r *race) lost(a *attempt) {
	r.failed = append(r.failed, a)
	if a.candidate.Remote() && a.refusal.Behind != "" && a.refusal.Type != connect.ProxyInternal {
		r.waiting = moveBack(r.waiting, a.candidate.Gateway.Cluster)
	}
}

// timedOut ends the race when its time is over.
func (r *race) timedOut() *connect.Refusal {
	for _, a := range r.running {
		r.lost(&attempt{candidate: a.candidate,
			refusal: connect.Refuse(http.StatusGatewayTimeout, connect.ConnectionTimeout, "no answer within %s", setupTimeout)})
	}
	r.abandon(errNoAnswer)
	return combine(r.req, r.failed)
}

// start begins an attempt. Its goroutine is counted by the Forward.
func (r *race) start(ctx context.Context, c Candidate) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{candidate: c, cancel: cancel}
	r.running = append(r.running, a)
	r.f.load.add(c.Key(), 1)
	r.f.running.Go(func() { // its path runs too, so that Wait has not returned
		if c.Remote() {
			a.refusal = r.remote(ctx, a)
		} else {
			a.refusal = r.local(ctx, a)
		}
		if a.refusal == nil && !r.won.CompareAndSwap(false, true) {
			relay.Abort(a.conn)
			a.refusal = connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "%v", errLost)
		}
		if a.refusal != nil {
			r.f.release(a)
		}
		r.results <- a
	})
}

// cancel aborts the attempts that have not reported.
func (r *race) cancel(cause error) {
	for _, a := range r.running {
		a.cancel(cause)
	}
}

// abandon ends the race without a winner.
func (r *race) abandon(cause error) {
	r.cancel(cause)
	if r.won.CompareAndSwap(false, true) {
		return // from now on every success aborts itself
	}
	for a := range r.results { // one has just won
		if a.refusal == nil {
			relay.Abort(a.conn)
			r.f.release(a)
			return
		}
	}
}

// release undoes what an attempt holds, after its connection was closed.
func (f *Forward) release(a *attempt) {
	a.cancel(nil)
	if a.written != nil {
		<-a.written
	}
	if a.conn != nil && !a.candidate.Remote() {
		f.dials.remove(a.conn)
	}
	f.load.add(a.candidate.Key(), -1)
}

// moveBack puts the candidates of a cluster behind the others: one of its
// gateways has answered that the cluster cannot serve.
func moveBack(all []Candidate, cluster mesh.ClusterName) []Candidate {
	var front, back []Candidate
	for _, c := range all {
		if c.Remote() && c.Gateway.Cluster == cluster {
			back = append(back, c)
		} else {
			front = append(front, c)
		}
	}
	return append(front, back...)
}
