package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gcp "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// watch is the wait of one stream for news of one type. It gives one answer and
// ends; the engine opens the next one when the sidecar has acknowledged that.
//
// The cache's mutex guards names and ended; the other fields are set once.
type watch struct {
	stream  *adsStream
	kind    kind
	sub     gcp.Subscription    // must not be written to
	again   map[string]struct{} // names asked for in this very request
	initial map[string]string   // versions that the client says it holds
	first   bool                // the request acknowledges nothing
	whole   bool                // state of the world: answers name everything
	send    func(change) bool   // must not block; false: no room
	nonce   func() string       // of what was sent, once the engine has sent it

	names []string    // what it is indexed under, sorted
	ended bool        // answered or cancelled: send must not be called any more
	retry *time.Timer // asks again when there may be room, or what the client has refused is due; nil: there is nothing
}

// scope returns what w is about.
func (w *watch) scope(remembered func(identity string) []string) []string {
	if !w.sub.IsWildcard() || w.kind == nothing || w.kind == policies {
		return scopeOf(w.sub, nil)
	}
	return scopeOf(w.sub, remembered(w.stream.identity))
}

// doubts returns what w's client may not hold.
func (w *watch) doubts() *doubts { return &w.stream.doubts[w.kind] }

// diff returns what w is told when there is what is known; false: nothing.
func (w *watch) diff(known known) (change, bool) {
	w.doubts().keep(w.names)
	if w.whole {
		return w.diffWhole(known)
	}
	c := changeFor(w.names, w.sub, w.again, w.initial, known, w.doubts())
	if len(c.send) > 0 || len(c.removed) > 0 {
		return c, true
	}
	// A request that acknowledges nothing is always answered, if only with
	// nothing: Envoy does not go on before its first one is, and our sidecar
	// takes it for the sign that what it holds is current, which cannot be said
	// of what is not known.
	return c, w.first && known.answers
}

// diffWhole is diff for the state-of-the-world protocol.
func (w *watch) diffWhole(known known) (change, bool) {
	d := w.doubts()
	tell := make(map[string]*discoveryv3.Resource, len(w.names))
	for _, name := range w.names {
		r := known.resources[name]
		if r == nil && !known.complete && w.kind == clusters {
			return change{}, false // to leave it out would be to say that it is gone
		}
		if d.withholds(name, r) {
			r = d.accepted[name] // what is left out is taken away
		}
		if r != nil {
			tell[name] = r
		}
	}
	had := w.sub.ReturnedResources()
	if d.refused {
		had = versions(d.accepted)
	}
	c := changeTo(tell)
	if !maps.Equal(c.known, had) {
		return c, true
	}
	if part := d.nextPart(w.names, known.resources, known.now); len(part) > 0 {
		for _, r := range part {
			tell[r.Name] = r
		}
		return changeTo(tell), true
	}
	// Only Clusters are taken away by leaving them out, so only there does
	// "none" say something.
	return c, w.first && known.complete && w.kind != endpoints && w.kind != numericEndpoints
}

// changeTo is the change that names everything in tell.
func changeTo(tell map[string]*discoveryv3.Resource) change {
	c := change{known: versions(tell)}
	for _, name := range slices.Sorted(maps.Keys(tell)) {
		c.send = append(c.send, tell[name])
	}
	return c
}

func versions(of map[string]*discoveryv3.Resource) map[string]string {
	v := make(map[string]string, len(of))
	for name, r := range of {
		v[name] = r.Version
	}
	return v
}

// wholeOf is a state-of-the-world answer with everything in c. Its version is made
// from the resources' own, so that it survives a restart.
func wholeOf(c change) (version string, resources []*anypb.Any) {
	h := sha256.New()
	resources = make([]*anypb.Any, len(c.send))
	for i, r := range c.send {
		resources[i] = r.Resource
		h.Write([]byte(r.Name + "\x00" + r.Version + "\x00"))
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), resources
}
