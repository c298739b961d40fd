package exchange

import (
	"context"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// Admission decides who may call the service beside, as its policy says at the time: HTTP by
// request, anything else, and what becomes of an upgrade, by connection for as long as
// that is open. Make it with [NewAdmission]; its methods may be called concurrently.
type Admission struct {
	policy   *state.Store[*policy.Authorizer]
	observer *authorize.Observer
	to       mesh.Destination

	mu   sync.Mutex
	open map[*Client]*question // relayed connections; each is asked under mu only
}

// NewAdmission returns what decides about calls of to. Nobody may call while the store holds
// nil: the policy is not known yet.
func NewAdmission(to mesh.Destination, by *state.Store[*policy.Authorizer], observer *authorize.Observer) *Admission {
	return &Admission{policy: by, observer: observer, to: to, open: map[*Client]*question{}}
}

// question is what is asked of a policy about one request, or about one connection when
// it has no request.
type question struct {
	req      *http1.Request
	fields   http1.Forwarded
	head     policy.Head
	path     []byte // holds a path in its normal form
	decision policy.Decision
	call     authorize.Call
}

// ask has p decide. The path that it judges stands in q.head: where p has rules about
// paths, that is the normal form, if there is one.
func (q *question) ask(p *policy.Authorizer) {
	if q.req == nil {
		q.decision = p.Opaque(q.call.Caller, q.call.To.Port)
		return
	}
	path := q.req.Path()
	if p.AsksForPaths() && len(path) > 0 {
		if normal, err := policy.AppendPath(q.path[:0], path); err == nil {
			q.path, path = normal, normal
		}
	}
	q.head = policy.Head{Method: q.call.Method, Path: path, Fields: &q.fields}
	q.decision = p.Request(q.call.Caller, q.call.To.Port, &q.head)
}

// unknownPolicy is why nobody is served yet.
func unknownPolicy() *LocalReply {
	return &LocalReply{503, connect.DestinationUnavailable, "no gateway has told this sidecar who may call yet: try again", ""}
}

// denied is what a refused caller is told; one that speaks gRPC gets 200 and grpc-status 7
// (PERMISSION_DENIED) instead, as with every LocalReply.
func denied(p *policy.Authorizer, q *question) *LocalReply {
	return &LocalReply{403, connect.RequestDenied, p.Explain(q.decision.Verdict, q.call.Caller), ""}
}

// request decides about the request in h.req; nil: it is allowed, and goes on with the
// path that was judged.
func (a *Admission) request(h *session) *LocalReply {
	p := a.policy.Load()
	if p == nil {
		return unknownPolicy()
	}
	if h.judgedBy != p {
		h.judgedBy, h.connection = p, p.Connection(h.client.Caller, a.to.Port)
	}
	q := &h.question
	q.req, q.fields = &h.req, http1.Forwarded{Request: &h.req, Outside: h.rewrite.Outside}
	q.call = authorize.Call{
		Caller: h.client.Caller, Peer: h.client.Accepted.RemoteAddr(), To: a.to, Method: h.req.MethodName(), Path: h.req.Path(),
	}
	if q.decision = h.connection; q.decision.NeedsRequest() {
		q.ask(p)
		if p.AsksForPaths() {
			h.rewrite.Path = q.head.Path
		}
	}
	a.observer.Decided(p, &q.decision, &q.call)
	if !q.decision.Allowed {
		return denied(p, q)
	}
	return nil
}

// Admit decides about a connection of which only bytes are seen. When it may go on, it
// ends as soon as the policy says otherwise, until [Admission.Leave]. Otherwise the error says why.
func (a *Admission) Admit(c *Client) error {
	q := &question{call: authorize.Call{Caller: c.Caller, Peer: c.Accepted.RemoteAddr(), To: a.to}}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.policy.Load()
	if p == nil {
		return unknownPolicy()
	}
	q.ask(p)
	a.observer.Decided(p, &q.decision, &q.call)
	if !q.decision.Allowed {
		return denied(p, q)
	}
	a.open[c] = q
	return nil
}

// admitUpgrade is [Admission.Admit] for a connection that leaves HTTP by the request in
// h.req, which was allowed. Until Leave nothing of the request may change.
func (a *Admission) admitUpgrade(h *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.policy.Load(); p != h.judgedBy {
		if h.question.ask(p); !h.question.decision.Allowed {
			a.observer.Ended(p, &h.question.decision, &h.question.call)
			return false
		}
	}
	a.open[h.client] = &h.question
	return true
}

// Leave says that a connection is over.
func (a *Admission) Leave(c *Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, c)
}

// Watch judges the open connections again whenever the policy changes, until ctx ends.
func (a *Admission) Watch(ctx context.Context) {
	for {
		p, past := a.policy.Snapshot()
		if p != nil {
			a.judge(p)
		}
		if !state.Await(ctx, past) {
			return
		}
	}
}

func (a *Admission) judge(p *policy.Authorizer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c, q := range a.open {
		if q.ask(p); !q.decision.Allowed {
			delete(a.open, c)
			a.observer.Ended(p, &q.decision, &q.call)
			c.End(nil)
		}
	}
}
