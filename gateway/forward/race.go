package forward

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// race tries the candidates of one path until the first succeeds.
type race struct {
	f       *Forward
	req     *Request
	early   *early
	won     atomic.Bool
	results chan *attempt
	running []*attempt
}

// run returns the attempt that won, whose connection and load count are the
// caller's to release, or why none did. ctx bounds the path, not only its
// setup: the winner's payload is written under it.
func (r *race) run(ctx context.Context, candidates []Candidate) (*attempt, *connect.Refusal) {
	r.results = make(chan *attempt, len(candidates))
	// The client is watched meanwhile: when it goes or sends what is not TLS,
	// nobody needs to be dialled any more.
	watch, unwatch := context.WithCancel(ctx)
	broken := make(chan error, 1)
	go func() {
		defer close(broken)
		broken <- r.early.broken(watch)
	}()
	defer func() {
		unwatch()
		for range broken { // until it has ended
		}
	}()

	setup := time.NewTimer(setupTimeout)
	defer setup.Stop()
	hedge := time.NewTimer(0)
	hedge.Stop()
	defer hedge.Stop()

	waiting := append([]Candidate(nil), candidates...)
	next := func() {
		c := waiting[0]
		waiting = waiting[1:]
		r.start(ctx, c)
		hedge.Reset(max(hedgeMin, hedgeRTTs*c.RTT))
	}
	var failed []*attempt
	next()
	for {
		select {
		case a := <-r.results:
			r.running = remove(r.running, a)
			if a.refusal == nil {
				r.cancel(errLost)
				return a, nil
			}
			failed = append(failed, a)
			if a.candidate.Remote() && a.refusal.Behind != "" {
				waiting = moveBack(waiting, a.candidate.Gateway.Cluster)
			}
			if len(waiting) > 0 {
				r.f.metrics.retries.Inc()
				next()
			} else if len(r.running) == 0 {
				return nil, combine(r.req, failed)
			}
		case <-hedge.C:
			if len(waiting) > 0 {
				r.f.metrics.hedges.Inc()
				next()
			}
		case err := <-broken:
			if err == nil { // ctx ended
				err = context.Cause(ctx)
			}
			r.abandon(err)
			return nil, clientRefusal(err)
		case <-setup.C:
			for _, a := range r.running {
				failed = append(failed, &attempt{candidate: a.candidate,
					refusal: connect.Refuse(http.StatusGatewayTimeout, connect.ConnectionTimeout, "no answer within %s", setupTimeout)})
			}
			r.abandon(errNoAnswer)
			return nil, combine(r.req, failed)
		case <-ctx.Done():
			r.abandon(context.Cause(ctx))
			return nil, clientRefusal(context.Cause(ctx))
		}
	}
}

// start begins an attempt. Its goroutine is counted by the Forward.
func (r *race) start(ctx context.Context, c Candidate) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{candidate: c, cancel: cancel}
	r.running = append(r.running, a)
	r.f.load.add(c.Key(), 1)
	r.f.wg.Add(1) // its path is counted too, so that Wait has not returned
	go func() {
		defer r.f.wg.Done()
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
	}()
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

func remove(all []*attempt, a *attempt) []*attempt {
	kept := all[:0]
	for _, b := range all {
		if b != a {
			kept = append(kept, b)
		}
	}
	return kept
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
