package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// ErrNobody is why there is no connection when no host could even be asked.
var ErrNobody = errors.New("no instance is ready and no gateway reaches one: see isthmus status")

// RetryPolicy says how often one request is tried, and by whom.
type RetryPolicy struct {
	// Instance is the only one that is asked, whether it is ready or not; empty: anyone.
	Instance string
	// Hosts bounds the hosts asked for one request; at most 8 are.
	Hosts int
	// Sends bounds how often it is sent, in whole or in part.
	Sends int
	// Rounds bounds how often everybody is asked again.
	Rounds int
	// Window is for how long after its first attempt, or after one that was lost, a
	// request is tried in further rounds. 0: hosts are not asked twice, unless they
	// did not answer in time.
	Window time.Duration
}

// DefaultRetries is the policy for services of the mesh.
func DefaultRetries() RetryPolicy {
	return RetryPolicy{Hosts: maxHosts, Sends: maxSends, Rounds: maxRounds, Window: retryWindow}
}

// InstanceRetries is the policy for a call that means one instance: nobody else is asked, and it
// is not waited for.
func InstanceRetries(name string) RetryPolicy {
	return RetryPolicy{Instance: name, Hosts: maxHosts, Sends: maxSends}
}

// Attempts are the tries of one request or of one TCP connection: whom it has asked,
// what that has shown, and whether it may try again. They belong to one goroutine
// and hold no resources but the lease. The zero value needs a Begin.
type Attempts struct {
	service   *Service
	policy    RetryPolicy
	began     time.Time // of the window
	now       instant   // when the running attempt was asked for, or the next is; 0: not looked at
	last      error     // why the last attempt failed
	rounds    int       // times that everybody was asked again
	earlier   int       // hosts asked in earlier rounds
	sent      int       // leases given
	unseen    int       // of them such that were retried because nobody saw the request
	going     int       // since stay was set, such whose program refused or reset: it may be about to end
	unreached int       // attempts that reached nobody
	fresh     bool      // pooled connections are not wanted, or one broke and they are no longer trusted
	raw       bool      // what is sent is not HTTP, or relayed as it is
	streams   bool      // a lease may be a stream
	http2     bool      // the client of an `auto` service speaks it
	once      bool      // it is not idempotent
	hopes     bool      // it is about to open a path on which there will be room for others
	repeats   int       // bounds lost, where a route says that the request is repeatable; 0: none does
	declined  bool      // the last that somebody saw was answered such that it is sent again
	lost      int       // attempts that may have reached somebody and were repeated
	crashed   int       // of them such that whoever was reached may be to blame
	goodbye   *Host     // whose connection took no new streams, the last
	stay      stay      // where the next attempt goes
	lease     Lease     // of the last attempt that got one

	// Of this round.
	asked   int
	local   int             // of them local endpoints
	tried   [maxHosts]*Host // not asked again
	n       int             // of tried
	avoid   [maxHosts]connect.Instance
	avoided int // of avoid, which lasts for all rounds
}

// Begin counts a request to s, once however often it is tried: it earns part of a
// retry. started is when its window begins. The first attempt follows at once.
func (a *Attempts) Begin(s *Service, policy RetryPolicy, started time.Time) {
	*a = Attempts{service: s, policy: policy, began: started, now: s.shared.now()}
	s.budget.request(a.now)
}

// Fresh makes every connection a new one: what is relayed as it is must not meet
// the deadlines and leftovers of somebody's exchange.
func (a *Attempts) Fresh() { a.fresh, a.raw = true, true }

// Streams says that a lease may be a stream: of a request, or after Fresh for CONNECT.
func (a *Attempts) Streams() { a.streams = true }

// HTTP2 says that the client of an `auto` service speaks HTTP/2: so does its program.
func (a *Attempts) HTTP2() { a.http2 = true }

// Once says that the request may be executed only once: a pooled connection is looked
// at before it is used.
func (a *Attempts) Once() { a.once = true }

// Repeatable says that the request may be executed more than once, and is sent again at most
// times after somebody may have seen it.
func (a *Attempts) Repeatable(times int) {
	a.repeats = times
	a.policy.Sends = max(a.policy.Sends, 1+times)
	a.policy.Rounds = max(a.policy.Rounds, times)
}

// Next makes the next attempt and returns what it runs on: hosts to which no
// connection comes about have seen nothing, and the next is asked. When everybody
// was asked it waits a moment and begins another round. waits says after such a
// pause whether the caller still does; nil: it does. The lease needs one
// [Lease.Done] and is good until the next call. The error is why the last attempt
// failed, [ErrNobody] when there was none.
func (a *Attempts) Next(ctx context.Context, waits func() bool) (*Lease, error) {
	if a.sent > 0 {
		a.now = 0
	}
	for ; a.Asked() < a.policy.Hosts; a.now = 0 {
		host, ok := a.service.pickHost(a.moment(a.service.shared), a)
		if !ok {
			if a.stay != (stay{}) {
				a.stay = stay{} // nobody there can be reached
				continue
			}
			if !a.nextRound(ctx, waits) {
				break
			}
			continue
		}
		lease, err := host.lease(ctx, a)
		if err == nil {
			a.sent++
			a.lease = lease
			return &a.lease, nil
		}
		host.done(a.service.shared.now(), a, nil, Broken, 0)
		a.Failed(err)
		a.unreached++
		if noDescriptor(err) || ourFault(err) {
			break // nobody else can be reached, either
		}
		a.leaveCluster(host, err)
	}
	if a.last == nil {
		return nil, ErrNobody
	}
	return nil, a.last
}

// moment returns when the running attempt was asked for: an attempt looks at the clock once,
// as long as it does not wait. a may be nil.
func (a *Attempts) moment(s *shared) instant {
	if a == nil {
		return s.now()
	}
	if a.now == 0 {
		a.now = s.now()
	}
	return a.now
}

// nextRound lets everybody be asked once more, after a pause, and reports whether to
// go on: what is told of hosts (tunnels, endpoints) lags behind what they are. What
// was learned stays: which instances to avoid, and that pooled connections broke.
func (a *Attempts) nextRound(ctx context.Context, waits func() bool) bool {
	pause := minPause << a.rounds
	if !a.mayAskAgain(pause) {
		return false
	}
	a.forgetRound()
	return state.Pause(ctx, pause/2+rand.N(pause)) && (waits == nil || waits())
}

// forgetRound makes everybody one who was not asked.
func (a *Attempts) forgetRound() {
	a.rounds++
	a.earlier += a.asked
	clear(a.tried[:a.n])
	a.n, a.asked, a.local = 0, 0, 0
	if a.declined { // who has answered is there, and everybody else was asked
		a.avoided = 0
	}
}

// mayAskAgain reports whether those who were asked are asked again after pause.
func (a *Attempts) mayAskAgain(pause time.Duration) bool {
	asked := a.Asked()
	few := asked > 0 && asked < minHosts
	switch {
	case a.rounds == a.policy.Rounds:
		return false
	case few && connect.IsTimeout(a.last):
		// Nobody answered in time, or we have slept ourselves: a machine that was
		// paused must not answer for everybody else.
		return true
	case a.policy.Window == 0:
		return false
	case a.declined: // who has answered is there
		return true
	}
	return few || time.Since(a.began)+pause <= a.policy.Window
}

// Failed says why an attempt that had a lease failed.
func (a *Attempts) Failed(err error) { a.last = err }

// RestartWindow begins the window anew: an attempt took long to be lost, and what
// follows deserves its own time.
func (a *Attempts) RestartWindow() { a.began = time.Now() }

// Loss is what may have become of a request whose attempt brought no answer.
type Loss uint8

const (
	// Unseen: no application has seen it.
	Unseen Loss = iota
	// Lost: somebody may have seen it, and perhaps died of it.
	Lost
	// OutOfService: somebody may have seen it whom the mesh has taken out of service
	// since, for reasons of its own, or who has used up the time that a rule gives one.
	OutOfService
	// Reset: its program reset the connection with TCP, as the kernel does for what a
	// program that ends has not accepted or not read. It did not die of it.
	Reset
	// Declined: it was answered, with a status after which its route has it sent again.
	Declined
)

// stay bounds where the next attempt goes: after a loss to the cluster that the request
// was in. The zero value is anywhere.
type stay struct {
	local   bool
	cluster mesh.ClusterName // behind the gateways
}

// allows reports whether a host of tier may be asked.
func (s stay) allows(tier int) bool {
	return s == stay{} || s.local == (tier == 0)
}

// MayRetry reports whether a request that was sent may be sent again: no
// application has seen it, or it is idempotent, and the policy leaves another attempt.
// What somebody may have died of is repeated once, whose path or host is gone more
// often. A retry begins with [Attempts.Retry].
func (a *Attempts) MayRetry(l Loss, idempotent bool) bool {
	if a.sent-a.unseen >= a.policy.Sends || a.Asked() >= a.policy.Hosts {
		return false
	}
	if l != Unseen && a.repeats > 0 && a.lost >= a.repeats {
		return false
	}
	switch l {
	case Unseen:
		return true
	case Lost:
		return idempotent && (a.crashed < maxCrashes || a.lease.pathLost())
	}
	return idempotent
}

// Retry begins a retry. What somebody may have seen goes to the cluster where it was,
// unless nobody there can be reached, and is taken out of the service's retry budget,
// 20 % of the requests of the last 10 s and at least 10 a second: Retry reports whether
// there was one. What nobody saw cost nobody anything, and is bounded by the hosts asked. After
// two whose program refused or reset, the next one may be anywhere, since all in that cluster may
// be going.
func (a *Attempts) Retry(l Loss) bool {
	if l != Unseen && !a.service.spendRetry() {
		return false
	}
	if l == Unseen && a.lease.Sent() || l == Reset {
		if a.going++; a.going >= leaveAfter {
			a.stay = stay{}
		}
	}
	if l == Unseen {
		a.unseen++
		return true
	}
	a.lost++
	a.declined = l == Declined
	if l == Lost && !a.lease.pathLost() {
		a.crashed++
	}
	if l == Lost || l == Declined {
		a.going = 0
		a.stay = stay{local: true}
		if a.lease.host.key.gateway {
			a.stay = stay{cluster: a.lease.Cluster}
		}
	}
	if who := a.lease.remote(); l == Declined && who != (connect.Instance{}) { // another one is asked first
		a.avoidRemote(who)
		a.removeTried(a.lease.host)
	}
	return true
}

// Lost returns how often the request was repeated although somebody may have seen it.
func (a *Attempts) Lost() int { return a.lost }

// Crashed returns how often of those whoever was reached may be to blame.
func (a *Attempts) Crashed() int { return a.crashed }

// leaveCluster lets the next attempt go to any cluster when the gateway h has said that
// it does not reach the one where the request was.
func (a *Attempts) leaveCluster(h *Host, err error) {
	var failed *ConnectError
	if a.stay.cluster != "" && errors.As(err, &failed) && failed.Stage != StageConnect {
		a.stay = stay{}
		a.removeTried(h)
	}
}

// Asked returns how many hosts were asked.
func (a *Attempts) Asked() int { return a.earlier + a.asked }

// Unreached returns how many attempts reached nobody.
func (a *Attempts) Unreached() int { return a.unreached }

// hasTried reports whether h was asked, or what it was before the route named it anew.
func (a *Attempts) hasTried(h *Host) bool {
	for _, x := range a.tried[:a.n] {
		if x.key == h.key {
			return true
		}
	}
	return false
}

func (a *Attempts) addTried(h *Host) {
	a.asked++
	if !h.key.gateway {
		a.local++
	}
	a.tried[a.n] = h
	a.n++
}

// removeTried lets h be picked once more: it was not to blame.
func (a *Attempts) removeTried(h *Host) {
	for i, x := range a.tried[:a.n] {
		if x == h {
			a.n--
			a.tried[i] = a.tried[a.n]
			a.tried[a.n] = nil
			return
		}
	}
}

// avoidRemote excludes an instance of another cluster from the next paths.
func (a *Attempts) avoidRemote(name connect.Instance) {
	if a.avoided < len(a.avoid) && !slices.Contains(a.avoid[:a.avoided], name) {
		a.avoid[a.avoided] = name
		a.avoided++
	}
}
