package upstream

import (
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// remoteOutliers keep the outliers among the instances behind the gateways. Its
// methods may be called concurrently.
type remoteOutliers struct {
	count atomic.Int32 // len(failing): nothing to do for the usual request

	mu      sync.Mutex
	failing map[connect.Instance]*outlier
}

// excludeIfFailing counts a failure and reports whether it excludes the instance from new paths.
func (r *remoteOutliers) excludeIfFailing(name connect.Instance, now instant, f fault) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.failing[name]
	if !ok {
		if len(r.failing) >= maxRemotes && !r.makeRoomLocked(now) {
			return false
		}
		if r.failing == nil {
			r.failing = make(map[connect.Instance]*outlier)
		}
		o = new(outlier)
		r.failing[name] = o
		r.count.Store(int32(len(r.failing)))
	}
	return o.fail(now, f)
}

// makeRoomLocked makes room and reports whether there is some.
func (r *remoteOutliers) makeRoomLocked(now instant) bool {
	for name, o := range r.failing {
		if now.since(o.until) > maxEjection {
			delete(r.failing, name)
		}
	}
	r.count.Store(int32(len(r.failing)))
	return len(r.failing) < maxRemotes
}

// reinstate forgets an instance that answered.
func (r *remoteOutliers) reinstate(name connect.Instance) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failing, name)
	r.count.Store(int32(len(r.failing)))
}

// ejected reports whether new paths must not lead to the instance.
func (r *remoteOutliers) ejected(name connect.Instance, now instant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.failing[name]
	return ok && now < o.until
}

// excluded returns the instances that new paths must not lead to, at most limit.
func (r *remoteOutliers) excluded(now instant, limit int) []connect.Instance {
	if r.count.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []connect.Instance
	for name, o := range r.failing {
		if now < o.until && len(names) < limit {
			names = append(names, name)
		}
	}
	return names
}
