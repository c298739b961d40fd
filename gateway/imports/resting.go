package imports

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// resting are ports of the entrance that nobody has any more, and who had them last. An
// EndpointSlice that a node still has, or a connection that stands, would lead to
// whoever has one next. Every gateway remembers them, so that who writes next knows them; one that
// starts knows of none. Not safe for concurrent use.
type resting struct {
	were map[uint16]mesh.Destination // when it was looked at last
	of   map[uint16]rest
}

type rest struct {
	last  mesh.Destination
	since time.Time
}

// update takes note of who has which port now.
func (r *resting) update(have map[uint16]mesh.Destination, now time.Time) {
	if r.of == nil {
		r.of = map[uint16]rest{}
	}
	for at, was := range r.were {
		if have[at] != was {
			r.of[at] = rest{was, now}
		}
	}
	for at, one := range r.of {
		if now.Sub(one.since) >= restFor {
			delete(r.of, at)
		}
	}
	r.were = have
}

// takes reports whether d may have a port: it rests from nobody else.
func (r *resting) takes(at uint16, d mesh.Destination) bool {
	one, rests := r.of[at]
	return !rests || one.last == d
}

// longest returns the port of those that nobody has which rests for longest.
func (r *resting) longest(taken map[uint16]bool) (at uint16, ok bool) {
	for n, one := range r.of {
		if !taken[n] && (!ok || one.since.Before(r.of[at].since) || one.since.Equal(r.of[at].since) && n < at) {
			at, ok = n, true
		}
	}
	return at, ok
}
