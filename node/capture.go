package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/interception"
)

const (
	// waitPause is the time between two looks for a pod that is about to start: its program
	// waits for so long at most.
	waitPause = 50 * time.Millisecond
	// lookPause is the time between two looks whether pods are where they were.
	lookPause = time.Second
	// addressPause is the time between two looks at the host's addresses.
	addressPause = 5 * time.Second
	// lateAfter is how long a pod may have an address and no cgroup before that is told.
	lateAfter = 20 * time.Second
)

// state is what becomes of a pod here.
type state struct {
	request  request
	since    time.Time // when it was first wanted, or was last seen where it had been
	at       place     // where it is captured; the zero value: it is not
	captured bool      // it was once
	retry    time.Time // not before
	told     string    // the last error
}

// capturer captures pods. step is called by one goroutine; status by any.
type capturer struct {
	host      *host
	directory string
	traffic   interception.PodTable // of every pod
	log       *slog.Logger
	event     func(p *corev1.Pod, reason, message string)

	pinned    map[types.UID]bool // what has hooks, of this agent's life and before
	refused   map[types.UID]bool // whom that was told
	addresses []netip.Addr
	looked    time.Time // at addresses

	mu   sync.Mutex
	pods map[types.UID]*state
}

// step brings what is captured closer to what the pods of this node want, and returns when
// it wants to be called again.
func (c *capturer) step(pods []*corev1.Pod, now time.Time) time.Duration {
	all, faults := wanted(pods)
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, s := range c.pods {
		if _, ok := all[uid]; !ok {
			delete(c.pods, uid)
			c.log.Debug("pod is over", "namespace", s.request.pod.Namespace, "pod", s.request.pod.Name)
		}
	}
	c.forget(pods)
	if now.Sub(c.looked) >= addressPause {
		c.look(now)
	}
	pause := lookPause
	c.tellRefused(pods, all, faults)
	for _, uid := range c.inTurn(all) {
		r := all[uid]
		s := c.pods[uid]
		if s == nil {
			s = &state{since: now}
			c.pods[uid] = s
		}
		changed := s.request.pod != nil && (!slices.Equal(s.request.excluded, r.excluded) || s.request.onFailure != r.onFailure)
		s.request = r
		if err := faults[uid]; err != nil {
			c.tell(s, err)
		}
		if !changed && s.at != (place{}) && c.host.still(s.at) {
			continue
		}
		if now.Before(s.retry) {
			pause = min(pause, s.retry.Sub(now))
			continue
		}
		if err := c.capture(s, now); err != nil {
			if s.at != (place{}) { // most often it ends, and the API server does not say so yet
				s.at, s.since = place{}, now
			}
			pause = min(pause, c.failed(s, err, now))
		}
	}
	return pause
}

// inTurn has pods that start come before those whose hooks are only to be renewed.
func (c *capturer) inTurn(all map[types.UID]request) []types.UID {
	return slices.SortedFunc(maps.Keys(all), func(a, b types.UID) int {
		switch has, hasB := c.pinned[a], c.pinned[b]; {
		case has == hasB:
			return cmp.Compare(a, b)
		case has:
			return 1
		}
		return -1
	})
}

// tellRefused tells of pods that cannot be captured at all.
func (c *capturer) tellRefused(pods []*corev1.Pod, all map[types.UID]request, faults map[types.UID]error) {
	for uid, err := range faults {
		if _, ok := all[uid]; ok || c.refused[uid] {
			continue
		}
		c.refused[uid] = true
		for _, p := range pods {
			if p.UID == uid {
				c.tell(&state{request: request{pod: p}}, err)
			}
		}
	}
	for uid := range c.refused {
		if faults[uid] == nil {
			delete(c.refused, uid)
		}
	}
}

// forget removes the hooks of pods that are over, once none of their processes is left: a pod
// that is deleted by force may run on for a while. A pod that merely wants none any more keeps
// them: its programs go on as they began.
func (c *capturer) forget(pods []*corev1.Pod) {
	here := map[types.UID]bool{}
	for _, p := range pods {
		here[p.UID] = !ended(p)
	}
	for uid := range c.pinned {
		if here[uid] {
			continue
		}
		if _, err := c.host.find(string(uid)); err == nil {
			continue
		}
		if err := interception.DetachPod(c.directory, string(uid)); err != nil {
			c.log.Warn("a pod has ended, and its hooks could not be removed", "uid", uid, "err", err)
			continue
		}
		delete(c.pinned, uid)
	}
}

// look keeps the pods told of the host's addresses.
func (c *capturer) look(now time.Time) {
	c.looked = now
	addresses, err := c.host.addresses()
	if err == nil && !slices.Equal(addresses, c.addresses) {
		err = interception.SetNodeAddresses(c.directory, addresses)
	}
	if err != nil {
		c.log.Warn("the node's addresses are not known: kubelet's probes of pods may be refused", "err", err)
		return
	}
	c.addresses = addresses
}

// capture attaches the hooks of one pod.
func (c *capturer) capture(s *state, now time.Time) error {
	p := s.request.pod
	at, err := c.host.find(string(p.UID))
	if err != nil {
		return err
	}
	own := p.Spec.HostUsers != nil && !*p.Spec.HostUsers
	uid, err := c.host.user(at.process, c.traffic.UID, own)
	if gone(err) {
		return errNotYet
	}
	if err != nil {
		return err
	}
	network, err := os.Open(c.host.path(at.process, "ns", "net"))
	if gone(err) {
		return errNotYet
	}
	if err != nil {
		return explain(err)
	}
	defer func() { _ = network.Close() }()
	c.look(now) // the network's first pod gives the host another one
	excluded := append(slices.Clone(c.traffic.Excluded), s.request.excluded...)
	err = interception.AttachPod(interception.PodHooks{
		Name: string(p.UID), Directory: c.directory, Cgroup: at.cgroup, Network: network, UID: uid,
		Captured: c.traffic.Captured, OutboundPort: c.traffic.OutboundPort, DNSPort: c.traffic.DNSPort, InboundPort: c.traffic.InboundPort,
		Excluded: excluded, OnFailure: s.request.onFailure,
		// In injected pods the kubelet asks the sidecar. In others the node has to pass.
		Node: slices.ContainsFunc(s.request.probed, func(port uint16) bool { return !slices.Contains(excluded, port) }),
	})
	if err == nil || errors.Is(err, interception.ErrOlder) {
		c.pinned[p.UID] = true
	}
	if errors.Is(err, interception.ErrOlder) {
		c.tell(s, err)
		err = nil
	}
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if s.captured {
		level = slog.LevelDebug // its first process has ended
	}
	s.at, s.captured = at, true
	c.log.Log(context.Background(), level, "pod is captured", "namespace", p.Namespace, "pod", p.Name, "after", now.Sub(s.since).Round(time.Millisecond))
	return nil
}

// failed tells why a pod is not captured, and returns when it is tried again.
func (c *capturer) failed(s *state, err error, now time.Time) time.Duration {
	if !errors.Is(err, errNotYet) {
		c.tell(s, err)
		s.retry = now.Add(lookPause)
		return lookPause
	}
	waited := now.Sub(s.since)
	if waited < lateAfter {
		return waitPause
	}
	if s.request.pod.Status.PodIP != "" {
		c.tell(s, fmt.Errorf("no process of the pod is found below %s, where cgroup v2 is: where the kubelet and its runtime use cgroup v1, annotate pods %s: init", c.host.cgroups.root, wayAnnotation))
	}
	s.retry = now.Add(lookPause)
	return lookPause
}

// tell logs what is wrong with a pod, once, and has it shown with the pod.
func (c *capturer) tell(s *state, err error) {
	if s.told == err.Error() {
		return
	}
	s.told = err.Error()
	p := s.request.pod
	c.log.Warn("pod is not captured as it should be", "namespace", p.Namespace, "pod", p.Name, "err", err)
	c.event(p, "NotCaptured", err.Error())
}

// counts says how many pods are captured, and how many wait for that.
func (c *capturer) counts() (captured, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.pods {
		if s.at != (place{}) {
			captured++
		} else {
			waiting++
		}
	}
	return captured, waiting
}
