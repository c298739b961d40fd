package mesh

import (
	"reflect"
	"slices"
	"time"
)

// Rule says what becomes of those requests to a destination that it matches. Of the rules of
// a destination the first that matches counts; a request that none matches is answered with
// 404. A destination without rules takes every request.
type Rule struct {
	Name   string // of the route that it is part of, for people: "HTTPRoute shop/orders rule 1"
	Match  Match
	Action Action
}

// Match is a condition on a request's head; the zero value matches everything. All of its
// parts must hold.
type Match struct {
	Path    PathMatch
	Method  string // exact; empty: any
	GRPC    bool   // the request is of gRPC
	Headers []ValueMatch
	Query   []ValueMatch
}

// PathMatch compares with the path as it came, without its query.
type PathMatch struct {
	Kind  MatchKind // empty: any path, as the prefix "/"
	Value string
}

// MatchKind says how a value is compared.
type MatchKind string

// The kinds of matches.
const (
	Exact MatchKind = "exact"
	// Prefix is by whole segments: /a matches /a, /a/ and /a/b, and not /ab.
	Prefix MatchKind = "prefix"
	// Regex is RE2's syntax, and matches the whole value.
	Regex MatchKind = "regex"
)

// ValueMatch compares a header field or a parameter of the query. Several values of one name
// are one list, joined by commas.
type ValueMatch struct {
	Name  string // of a header field in lower case
	Kind  MatchKind
	Value string
}

// Action is what becomes of a request.
type Action struct {
	Request  Fields // of the request's head
	Response Fields // of the answer's head
	Rewrite  Rewrite
	Redirect *Redirect // the answer; nil: a backend answers
	Mirrors  []Mirror
	// Backends are chosen by weight. A request that has none is answered with 500.
	Backends []Backend
	Timeout  time.Duration // from the request's head to the end of its answer; 0: none
	// BackendTimeout is of one attempt, to the beginning of its answer; 0: none.
	BackendTimeout time.Duration
	// Retry says that what the rule matches may be executed more than once, whatever its
	// method; nil: nobody has said so.
	Retry *Retry
}

// Retry says when a request is sent again: when it was lost, when its backend has taken too long,
// and when the answer is one of these.
type Retry struct {
	Codes    []int    // statuses of HTTP, 400 to 599
	Statuses []string // of gRPC, by name, such as UNAVAILABLE
	Attempts int      // how often it is sent again at most
	// Backoff is how long is waited before it is, at least.
	Backoff time.Duration
}

// Fields change the fields of a head: those of Remove go, those of Set replace, those of
// Add come beside what there is.
type Fields struct {
	Set, Add []Field
	Remove   []string // in lower case
}

// Field is a header field.
type Field struct{ Name, Value string } // the name in lower case

// IsZero reports whether f changes nothing.
func (f *Fields) IsZero() bool { return len(f.Set)+len(f.Add)+len(f.Remove) == 0 }

// Rewrite changes where a request says that it goes.
type Rewrite struct {
	Host string // empty: as it is
	Path PathRewrite
}

// PathRewrite changes a path.
type PathRewrite struct {
	Kind  RewriteKind // empty: as it is
	Value string
}

// RewriteKind says what of a path is replaced.
type RewriteKind string

// The kinds of rewrites.
const (
	ReplaceFull   RewriteKind = "full"
	ReplacePrefix RewriteKind = "prefix" // of a rule that matches a prefix
)

// Redirect is an answer that sends the client elsewhere.
type Redirect struct {
	Scheme string // empty: as it is
	Host   string // empty: as it is
	Path   PathRewrite
	Port   uint16 // 0: of the scheme, or as it is when that is empty
	Status int
}

// Mirror sends part of the requests a second time; what is answered there is dropped.
type Mirror struct {
	Destination Destination
	PerMillion  uint32 // of the requests
}

// Backend is one of those who may answer.
type Backend struct {
	Destination Destination // zero: it is not there, and is answered for with 500
	Weight      uint32
	Request     Fields // beside those of the action
	Response    Fields
}

// EqualRules reports whether a and b say the same.
func EqualRules(a, b []Rule) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || slices.EqualFunc(a, b, func(x, y Rule) bool { return reflect.DeepEqual(x, y) })
}
