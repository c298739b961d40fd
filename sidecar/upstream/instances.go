package upstream

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// instances are those that a host's connections lead to, and whose turn it is. The
// pool's lock guards them.
//
// Requests are spread by start-time fair queueing: each one costs its instance
// 1/weight of virtual time, and the next goes to the instance with the earliest
// time. Who runs many requests for its weight is passed over for a while and makes up
// for it, but who was not able to serve for longer is owed no more than maxOwed.
type instances struct {
	all   []*instance
	clock float64 // virtual time
}

// instance is one of them. Only active may be touched without the pool's lock.
type instance struct {
	who    connect.Instance
	weight float64      // at least 1
	active atomic.Int32 // requests on its connections without Done
	idle   []*Conn
	busy   []*Conn // in use, of those that several requests may use
	joined int     // requests beyond one on each of busy
	finish float64 // virtual time at which its last request ends

	// For the request that looks for one now.
	room    *Conn // of busy, which takes it; nil: none does, or none needs to
	shunned bool  // it is ejected

	quickest time.Duration // in which a path to it was opened, of late: two round trips, or more
	openedAt instant       // when the latest connection to it was opened
	missed   int           // times in a row that a path was asked for and led to somebody else
	retired  bool          // not offered any more: connections end with their exchange
}

// of returns the instance of that name, a new one when there is none.
func (s *instances) of(who connect.Instance) *instance {
	for _, i := range s.all {
		if i.who == who {
			return i
		}
	}
	if len(s.all) >= maxIdlePerHost {
		s.forgetUnused()
	}
	i := &instance{who: who, weight: 1, finish: s.clock}
	s.all = append(s.all, i)
	return i
}

// opened notes a new connection.
func (i *instance) opened(c *Conn, now instant) {
	i.weight = float64(max(c.weight, 1))
	i.openedAt, i.missed, i.retired = now, 0, false
	took := now.since(c.opened)
	if i.quickest == 0 || took < i.quickest {
		i.quickest = took
	} else {
		i.quickest += (took - i.quickest) / 64
	}
	if i.quickest > maxSharedOpening {
		c.most = min(c.most, 1)
	}
}

// next returns whose turn it is among those with an idle connection or room on one in use, or
// nil; who is ejected comes after all others. starved says that it would have been
// somebody's whose connections are all busy.
func (s *instances) next() (_ *instance, starved bool) {
	var best, first *instance
	var least, earliest float64
	for _, i := range s.all {
		at := s.start(i) + float64(i.active.Load())/i.weight
		if i.shunned {
			at = math.MaxFloat64
		}
		if first == nil || at < earliest {
			first, earliest = i, at
		}
		if (len(i.idle) > 0 || i.room != nil) && (best == nil || at < least) {
			best, least = i, at
		}
	}
	return best, first != best
}

// charge notes that a connection to i is given out.
func (s *instances) charge(i *instance) {
	at := s.start(i)
	s.clock = max(at, s.clock)
	i.finish = at + 1/i.weight
	i.active.Add(1)
}

// start returns the virtual time at which the next request to i would begin.
func (s *instances) start(i *instance) float64 { return max(i.finish, s.clock-maxOwed) }

// busy returns how many requests run.
func (s *instances) busy() int {
	n := 0
	for _, i := range s.all {
		n += int(max(i.active.Load(), 0))
	}
	return n
}

// forgetUnused drops the instances without connections.
func (s *instances) forgetUnused() {
	s.all = slices.DeleteFunc(s.all, func(i *instance) bool { return len(i.idle)+len(i.busy) == 0 && i.active.Load() <= 0 })
}

// held returns the names of those that have connections, except one, for the
// gateway to prefer others.
func (s *instances) held(except connect.Instance) []connect.Instance {
	var names []connect.Instance
	for _, i := range s.all {
		if i.who != except && i.who != (connect.Instance{}) && !i.retired && len(names) < maxExcluded {
			names = append(names, i.who)
		}
	}
	return names
}

// oldest returns the instance whose latest connection was opened before then and
// before all others', or nil.
func (s *instances) oldest(then instant) *instance {
	var oldest *instance
	for _, i := range s.all {
		if i.openedAt < then && !i.retired && (oldest == nil || i.openedAt < oldest.openedAt) {
			oldest = i
		}
	}
	return oldest
}

// short returns an instance whose connections are all busy and fewer than its weight
// says, and the one that has most of them; or nil.
func (s *instances) short() (poor, rich *instance) {
	var conns, weight float64
	for _, i := range s.all {
		conns += i.conns()
		weight += i.weight
	}
	for _, i := range s.all {
		if len(i.idle) == 0 && !i.retired && i.conns()+1 <= conns*i.weight/weight &&
			(poor == nil || i.conns()/i.weight < poor.conns()/poor.weight) {
			poor = i
		}
		if rich == nil || i.conns()/i.weight > rich.conns()/rich.weight {
			rich = i
		}
	}
	return poor, rich
}

func (i *instance) conns() float64 {
	return float64(len(i.idle)) + max(float64(i.active.Load())-float64(i.joined), 0)
}
