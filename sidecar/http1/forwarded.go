package http1

import "bytes"

// What of a request is passed on, for whoever decides about it: the head that the next
// hop reads must be the one that was judged.

// Path returns the path of the target as it is passed on, without its query; nil for a
// target that has none, which are those of CONNECT and "*".
func (r *Request) Path() []byte {
	path, _ := r.pathAndQuery()
	return path
}

// Query returns the query of the target, without its "?"; nil: it has none.
func (r *Request) Query() []byte {
	_, query := r.pathAndQuery()
	if len(query) == 0 {
		return nil
	}
	return query[1:]
}

func (r *Request) pathAndQuery() (path, query []byte) {
	path = r.bytes(r.target)
	switch {
	case r.absolute:
		path = r.bytes(r.path)
		if len(path) == 0 && r.Method == Options {
			return nil, nil // RFC 9112 §3.2.4
		}
	case r.Method == Connect || len(path) == 1 && path[0] == '*':
		return nil, nil
	}
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i:]
	}
	if len(path) == 0 {
		path = []byte{'/'}
	}
	return path, query
}

// Forwarded are the header fields of a request that are passed on as they came.
type Forwarded struct {
	Request *Request
	Outside bool // as in [RequestRewrite]
}

// Value returns the nth value, from 0, of the field called name, which is in lower case;
// false: there are not so many. The host is that which the request is for.
func (f *Forwarded) Value(name string, n int) ([]byte, bool) {
	r := f.Request
	if name == "host" {
		host := r.Host()
		return host, n == 0 && len(host) > 0
	}
	for i := range r.fields[:r.n] {
		field := &r.fields[i]
		if !equalFold(r.bytes(field.name), name) || !r.passes(field.kind, f.Outside) {
			continue
		}
		if n == 0 {
			return r.bytes(field.value), true
		}
		n--
	}
	return nil, false
}

// passes reports whether [AppendRequest] copies fields of a kind. The host it writes
// itself.
func (r *Request) passes(k kind, outside bool) bool {
	switch k {
	case host, transferEncoding, connection, hopByHop, te, identity, listedHopByHop:
		return false
	case upgrade:
		return r.Upgrade() != nil
	case expect:
		return !r.http10
	case forwarded, forwardedProto:
		return !outside
	}
	return true
}
