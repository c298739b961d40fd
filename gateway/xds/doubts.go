package xds

import (
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// doubts are what one stream's client may not hold of one type, because it has
// refused (NACK) the response in which it came. One bad resource refuses all that
// came with it, so they are sent again apart from the others, in parts that halve
// with each refusal, with a pause before each. What is refused alone is left out
// until it changes; the rest arrives.
//
// The cache's mutex guards it. The zero value doubts nothing.
type doubts struct {
	unanswered []*sentResponse // in the order in which they were sent, at most maxUnanswered
	resources  map[string]*doubt
	part       int // how many of them go together next
	backoff    state.Backoff
	notBefore  time.Time // of the next part

	// accepted is what the client holds for sure, and refused that it was that
	// which it fell back to: for the state-of-the-world protocol, whose answers
	// name everything.
	accepted map[string]*discoveryv3.Resource
	refused  bool
}

// doubt is one resource.
type doubt struct {
	version string // in which it was sent last
	sent    bool   // in a part that is not answered yet
	bad     bool   // it was refused alone in this version
}

// sentResponse is a response that the client has not answered yet.
type sentResponse struct {
	nonce     func() string // the protocol engine sets it after we have handed the response over
	resources []*discoveryv3.Resource
}

// send notes a response. Without resources there is nothing to refuse.
func (d *doubts) send(nonce func() string, resources []*discoveryv3.Resource) {
	d.refused = false
	if len(d.unanswered) == maxUnanswered {
		d.accept(d.unanswered[0], false)
		d.unanswered = slices.Delete(d.unanswered, 0, 1)
	}
	d.unanswered = append(d.unanswered, &sentResponse{nonce, resources})
}

// answer takes what the client says of the response that has the nonce. It returns
// the resource that is now known to be bad, if there is one, and of how many the
// response consisted.
func (d *doubts) answer(nonce string, refused, whole bool, now time.Time) (bad string, of int) {
	i := slices.IndexFunc(d.unanswered, func(r *sentResponse) bool { return r.nonce() == nonce })
	if nonce == "" || i < 0 {
		return "", 0
	}
	r := d.unanswered[i]
	for _, passed := range d.unanswered[:i] {
		d.unsent(passed.resources)
	}
	d.unanswered = slices.Delete(d.unanswered, 0, i+1)
	if !refused {
		d.accept(r, whole)
		return "", len(r.resources)
	}
	return d.refuse(r, whole, now), len(r.resources)
}

func (d *doubts) accept(r *sentResponse, whole bool) {
	if whole {
		d.accepted = make(map[string]*discoveryv3.Resource, len(r.resources))
	}
	for _, resource := range r.resources {
		if whole {
			d.accepted[resource.Name] = resource
		}
		if was := d.resources[resource.Name]; was != nil && was.version == resource.Version {
			delete(d.resources, resource.Name)
			d.part = min(2*d.part, maxNames)
		}
	}
	d.backoff.Reset()
}

func (d *doubts) refuse(r *sentResponse, whole bool, now time.Time) (bad string) {
	suspects := r.resources
	if whole {
		d.refused = true
		suspects = slices.DeleteFunc(slices.Clone(suspects), func(r *discoveryv3.Resource) bool {
			return d.accepted[r.Name] != nil && d.accepted[r.Name].Version == r.Version
		})
	}
	if d.resources == nil {
		d.resources = map[string]*doubt{}
		d.backoff = state.Backoff{Min: minRefusedPause, Max: maxRefusedPause}
	}
	for _, s := range suspects {
		d.resources[s.Name] = &doubt{version: s.Version, bad: len(suspects) == 1}
	}
	d.part = max(len(suspects)/2, 1)
	d.notBefore = now.Add(d.backoff.Next())
	if len(suspects) != 1 {
		return ""
	}
	return suspects[0].Name
}

// unsent notes that resources did not go out, or will never be answered.
func (d *doubts) unsent(resources []*discoveryv3.Resource) {
	for _, r := range resources {
		if was := d.resources[r.Name]; was != nil {
			was.sent = false
		}
	}
}

// keep forgets what is not among names, which are sorted: who unsubscribes starts
// anew.
func (d *doubts) keep(names []string) {
	for name := range d.resources {
		if _, about := slices.BinarySearch(names, name); !about {
			delete(d.resources, name)
		}
	}
}

// withholds reports whether the resource of that name, nil when there is none, goes
// in no ordinary response.
func (d *doubts) withholds(name string, resource *discoveryv3.Resource) bool {
	was := d.resources[name]
	switch {
	case was == nil:
		return false
	case resource == nil:
		delete(d.resources, name)
		return false
	case was.bad && was.version != resource.Version:
		was.bad = false // it may have been mended
	}
	return true
}

// nextPart returns the resources that go out again now, as one response.
func (d *doubts) nextPart(names []string, exists map[string]*discoveryv3.Resource, now time.Time) (part []*discoveryv3.Resource) {
	if _, waiting := d.wait(now); !waiting || now.Before(d.notBefore) {
		return nil
	}
	size := 0
	for _, name := range names {
		was, resource := d.resources[name], exists[name]
		if was == nil || was.bad || resource == nil || len(part) == d.part {
			continue
		}
		if size += len(resource.GetResource().GetValue()); size > maxResponse && len(part) > 0 {
			break
		}
		was.version, was.sent = resource.Version, true
		part = append(part, resource)
	}
	return part
}

// wait returns for how long the next part has to wait; false: there is none, or
// one is not answered yet.
func (d *doubts) wait(now time.Time) (time.Duration, bool) {
	waiting := false
	for _, was := range d.resources {
		if was.sent {
			return 0, false
		}
		waiting = waiting || !was.bad
	}
	return max(d.notBefore.Sub(now), 0), waiting
}

// bad returns how many resources are left out.
func (d *doubts) bad() (n int) {
	for _, was := range d.resources {
		if was.bad {
			n++
		}
	}
	return n
}
