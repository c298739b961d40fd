package xds

import (
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gcp "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// toldAbsent is the version under which a subscription records that its sidecar
// was told that a name does not exist. No content hash is spelled like it.
const toldAbsent = "-"

// scopeOf returns the names that a subscription is about, sorted: those it asks
// for now and, when it asks for "*", those remembered of its identity and those it
// says it holds, so that it hears of their end.
func scopeOf(sub gcp.Subscription, remembered []string) []string {
	names := make([]string, 0, len(sub.SubscribedResources())+len(remembered))
	for n := range sub.SubscribedResources() {
		names = append(names, n)
	}
	if sub.IsWildcard() {
		names = append(names, remembered...)
		for n := range sub.ReturnedResources() {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// change is what one subscription is told.
type change struct {
	send    []*discoveryv3.Resource // new, changed, or asked for again
	removed []string                // do not exist (any more)
	known   map[string]string       // name → version (or toldAbsent) that the sidecar has after this
}

// changeFor computes what a subscription about names is told when there is what is
// known; while that is not complete nothing is said to be absent. It is pure: the
// same arguments give the same change.
//
// again are the names of the request at hand, which are answered even when the
// subscription seems to have them: a client may drop a resource and want it back
// before it said so. A resource that the client claims to hold in the current
// version (initial) is spared even then; that is what initial versions are for.
//
// What the client has refused comes when there is nothing else to say, and when
// doubts say so.
func changeFor(names []string, sub gcp.Subscription, again map[string]struct{}, initial map[string]string, known known, doubts *doubts) change {
	c := change{known: make(map[string]string, len(names))}
	had := sub.ReturnedResources()
	asked := sub.SubscribedResources()
	size := 0
	for _, name := range names {
		version, told := had[name]
		resource := known.resources[name]
		_, byName := asked[name]
		_, now := again[name]
		force := byName && now
		switch {
		case doubts.withholds(name, resource):
			c.known[name] = "" // it was told something
		case resource != nil:
			c.known[name] = resource.Version
			if version == resource.Version && (!force || initial[name] == resource.Version) {
				continue
			}
			if size += len(resource.GetResource().GetValue()); size > maxResponse && len(c.send) > 0 {
				// It follows when this part is acknowledged.
				delete(c.known, name)
				continue
			}
			c.send = append(c.send, resource)
		case !known.complete:
			if told {
				c.known[name] = version
			}
		case byName || told:
			if byName {
				c.known[name] = toldAbsent
			}
			if version == toldAbsent && !force {
				continue
			}
			c.removed = append(c.removed, name)
		}
	}
	if len(c.send) == 0 {
		c.send = doubts.nextPart(names, known.resources, known.now)
		for _, r := range c.send {
			c.known[r.Name] = r.Version
		}
	}
	return c
}
