package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"

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

	names []string // what it is indexed under, sorted
	ended bool     // cancelled: send must not be called any more
}

// scope returns what w is about.
func (w *watch) scope(remembered func(identity string) []string) []string {
	if !w.sub.IsWildcard() || w.kind == nothing {
		return scopeOf(w.sub, nil)
	}
	return scopeOf(w.sub, remembered(w.stream.identity))
}

// diff returns what w is told when exists is all there is; false: nothing.
func (w *watch) diff(exists map[string]*discoveryv3.Resource) (change, bool) {
	if w.whole {
		return w.diffWhole(exists)
	}
	c := changeFor(w.names, w.sub, w.again, w.initial, exists)
	if len(c.send) > 0 || len(c.removed) > 0 {
		return c, true
	}
	// A request that acknowledges nothing is always answered, if only with
	// nothing: Envoy does not go on before its first one is, and our sidecar
	// takes it for the sign that what it holds is current.
	return c, w.first
}

// diffWhole is diff for the state-of-the-world protocol.
func (w *watch) diffWhole(exists map[string]*discoveryv3.Resource) (change, bool) {
	c := change{known: make(map[string]string, len(w.names))}
	for _, name := range w.names {
		if r := exists[name]; r != nil {
			c.known[name] = r.Version
			c.send = append(c.send, r)
		}
	}
	if maps.Equal(c.known, w.sub.ReturnedResources()) {
		// Only Clusters are taken away by leaving them out, so only there does
		// "none" say something.
		return c, w.first && w.kind != endpoints
	}
	return c, true
}

// wholeResponse is the state-of-the-world answer with everything in c. Its
// version is made from the resources' own, so that it survives a restart.
func wholeResponse(typeURL string, c change) *discoveryv3.DiscoveryResponse {
	h := sha256.New()
	resources := make([]*anypb.Any, len(c.send))
	for i, r := range c.send {
		resources[i] = r.Resource
		h.Write([]byte(r.Name + "\x00" + r.Version + "\x00"))
	}
	return &discoveryv3.DiscoveryResponse{
		TypeUrl:     typeURL,
		VersionInfo: hex.EncodeToString(h.Sum(nil)[:8]),
		Resources:   resources,
	}
}
