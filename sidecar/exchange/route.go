package exchange

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Routing is where requests of a listener go by the rules of its destination. Its fields do not
// change.
type Routing struct {
	Destination mesh.Destination
	// Rules returns those that are in force; nil: there are none. It must not block.
	Rules func() *traffic.Rules
	// Backend is [Server.Service] for a backend of a rule.
	Backend func(context.Context, mesh.Destination) (*upstream.Service, error)
	// Mirror sends a request, as HTTP/1.1 has it, to somebody whose answer nobody reads, if
	// there is room for one more. It keeps the message and must not block.
	Mirror func(to mesh.Destination, message []byte)
}

// ruled is what a rule says of one request; the zero value is that there are no rules.
type ruled struct {
	rule    *traffic.Rule
	backend *traffic.Backend // nil: none, or not chosen yet
	whole   bounds           // of the exchange, where an attempt has bounds of its own

	location string // where a redirect leads
}

// route returns where the request goes. Its error says what is answered instead.
func (x *exchange) route() (*upstream.Service, error) {
	service, err := x.service()
	if err != nil || x.s.Routing == nil {
		return service, err
	}
	rules := x.s.Routing.Rules()
	if rules == nil {
		return service, nil
	}
	q := &x.asked
	q.fields = http1.Forwarded{Request: &x.req, Outside: x.rewrite.Outside}
	q.head = traffic.Head{Method: x.req.MethodName(), Path: x.req.Path(), Query: x.req.Query(), GRPC: x.grpc, Fields: &q.fields}
	rule := rules.Match(&q.head)
	if rule == nil {
		return nil, &LocalReply{Status: 404, Reason: connect.DestinationNotFound, Detail: fmt.Sprintf("no rule of the routes of %s matches the request", x.s.Routing.Destination)}
	}
	x.rule = rule
	a := &rule.Action
	if a.Redirect != nil {
		x.location = x.redirect(rule)
		return nil, &LocalReply{Status: a.Redirect.Status}
	}
	if a.Timeout > 0 {
		x.bounds.limit(x.started.Add(a.Timeout), a.Timeout, rule.Name)
	}
	x.whole = x.bounds
	b := rule.Pick(rand.Uint32())
	if b == nil || b.Destination == (mesh.Destination{}) {
		return nil, &LocalReply{Status: 500, Reason: connect.DestinationUnavailable, Detail: "the backend that " + rule.Name + " names is not there: see the route's conditions"}
	}
	x.backend = b
	x.rewrite.Fields, x.rewrite.Authority = b.Request, a.Rewrite.Host
	if a.Rewrite.Path.Kind != "" && q.head.Path != nil {
		q.path = rule.AppendPath(q.path[:0], &a.Rewrite.Path, q.head.Path)
		x.rewrite.Path = q.path
	}
	if b.Destination == x.s.Routing.Destination {
		return service, nil
	}
	return x.s.Routing.Backend(x.ctx, b.Destination)
}

// asked is what rules are asked about one request.
type asked struct {
	head   traffic.Head
	fields http1.Forwarded
	path   []byte // that a rule makes
}

// boundAttempt bounds an attempt, where a rule does.
func (r *ruled) boundAttempt(x *exchange) {
	if r.rule == nil || r.rule.Action.BackendTimeout == 0 {
		return
	}
	x.bounds = r.whole
	x.bounds.limit(time.Now().Add(r.rule.Action.BackendTimeout), r.rule.Action.BackendTimeout, r.rule.Name)
}

// unboundAttempt undoes boundAttempt.
func (r *ruled) unboundAttempt(x *exchange) {
	if r.rule != nil {
		x.bounds = r.whole
	}
}

// response returns what is changed of the answer's head; nil: nothing.
func (r *ruled) response() *mesh.Fields {
	if r.backend == nil {
		return nil
	}
	return r.backend.Response
}

// redirect returns where a redirect leads: to a port only where the scheme does not say it
// (RFC 3986 §6.2.3).
func (x *exchange) redirect(rule *traffic.Rule) string {
	r := rule.Action.Redirect
	came := schemeOf(&x.req, &x.rewrite)
	scheme := r.Scheme
	if scheme == "" {
		scheme = came
	}
	host, port := r.Host, r.Port
	if host == "" {
		host = withoutPort(string(x.req.Host()))
		if host == "" {
			host = x.rewrite.Host
		}
	}
	if port == 0 && r.Scheme == "" {
		port = x.s.Routing.Destination.Port
	}
	to := scheme + "://" + host
	if port != 0 && (scheme != "http" || port != 80) && (scheme != "https" || port != 443) {
		to += ":" + strconv.Itoa(int(port))
	}
	path := x.req.Path()
	if r.Path.Kind != "" && path != nil {
		path = rule.AppendPath(nil, &r.Path, path)
	}
	to += string(path)
	if query := x.req.Query(); query != nil {
		to += "?" + string(query)
	}
	return to
}

// withoutPort returns the host of an authority.
func withoutPort(authority string) string {
	for i := len(authority) - 1; i >= 0; i-- {
		switch c := authority[i]; {
		case c == ':':
			return authority[:i]
		case c < '0' || c > '9':
			return authority
		}
	}
	return authority
}

// mirror sends the request to those to whom its rule mirrors it, once its body is here in
// whole: before it is sent, or else when the exchange is over. One whose body was too large
// to be kept is not mirrored.
func (x *exchange) mirror() {
	if x.rule == nil || x.backend == nil || len(x.rule.Action.Mirrors) == 0 {
		return
	}
	body := x.first
	if x.up != nil {
		if !x.up.kept() {
			return
		}
		body = x.up.buf[:x.up.valid]
	}
	for _, m := range x.rule.Action.Mirrors {
		if uint64(rand.Uint32())*1_000_000>>32 >= uint64(m.PerMillion) {
			continue
		}
		head := http1.AppendRequest(make([]byte, 0, 1024+len(body)), &x.req, &x.rewrite)
		head = append(head[:len(head)-len("\r\n")], "Connection: close\r\n\r\n"...)
		x.s.Routing.Mirror(m.Destination, append(head, body...))
	}
}
