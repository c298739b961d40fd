package xds

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// hosts resolves the host names that endpoints are configured by, for clients that
// take IP addresses only. A name is asked for again and again while an endpoint has
// it; what it resolved to last stays while its server does not answer. Its methods
// may be called concurrently.
type hosts struct {
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	log     *slog.Logger
	wanted  state.Notify // there is a new name
	changed state.Notify // a name has another address

	mu    sync.Mutex
	known map[string]*host
}

// host is one name.
type host struct {
	addr netip.Addr // zero: it has none, or is not resolved yet
	due  time.Time  // when it is asked for next
	told bool       // the log has been told that it cannot be resolved
}

func newHosts(lookup func(ctx context.Context, host string) ([]netip.Addr, error), log *slog.Logger) *hosts {
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return &hosts{lookup: lookup, log: log, wanted: state.NewNotify(), changed: state.NewNotify(), known: map[string]*host{}}
}

// use makes names the ones that are resolved, as many as are allowed.
func (h *hosts) use(names map[string]struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.known {
		if _, used := names[name]; !used {
			delete(h.known, name)
		}
	}
	for name := range names {
		if h.known[name] == nil && len(h.known) < maxHosts {
			h.known[name] = &host{}
			h.wanted.Notify()
		}
	}
}

// numeric returns the endpoints with IP addresses; those without one are left out.
func (h *hosts) numeric(endpoints []mesh.Endpoint) []mesh.Endpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]mesh.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		if name, port := hostName(e.Address); name != "" {
			known := h.known[name]
			if known == nil || !known.addr.IsValid() {
				continue
			}
			e.Address = net.JoinHostPort(known.addr.String(), port)
		}
		all = append(all, e)
	}
	return all
}

// run resolves what is due, until ctx ends.
func (h *hosts) run(ctx context.Context) {
	for ctx.Err() == nil {
		due, next := h.due(time.Now())
		var asking errgroup.Group
		asking.SetLimit(maxLookups)
		for _, name := range due {
			asking.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
				defer cancel()
				addrs, err := h.lookup(ctx, name)
				h.resolved(name, addrs, err)
				return nil
			})
		}
		_ = asking.Wait() // each notes its own error
		if len(due) > 0 {
			continue // the next one may be due already
		}
		state.AwaitFor(ctx, next, h.wanted.C())
	}
}

// due returns the names to ask for now, and how long until the next one.
func (h *hosts) due(now time.Time) (names []string, next time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next = resolveInterval
	for name, known := range h.known {
		if wait := known.due.Sub(now); wait > 0 {
			next = min(next, wait)
		} else {
			names = append(names, name)
		}
	}
	return names, next
}

// resolved notes what was answered for a name. Of several addresses the one that it
// had stays, so that nothing changes with the order of an answer.
func (h *hosts) resolved(name string, addrs []netip.Addr, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.known[name]
	if known == nil {
		return // not used any more
	}
	last := known.addr
	var failed *net.DNSError
	switch {
	case err == nil && len(addrs) > 0:
		for i, a := range addrs {
			addrs[i] = a.Unmap().WithZone("")
		}
		if !slices.Contains(addrs, last) {
			known.addr = addrs[0]
		}
		known.due, known.told = time.Now().Add(resolveInterval), false
	default:
		known.due = time.Now().Add(resolveRetry)
		if err == nil || errors.As(err, &failed) && failed.IsNotFound {
			known.addr = netip.Addr{}
		}
		if !known.told {
			known.told = true
			h.log.Warn("an endpoint's host name cannot be resolved: clients other than our sidecars are not told of it", "host", name, "err", err)
		}
	}
	if known.addr != last {
		h.changed.Notify()
	}
}

// hostNamesOf adds to names the host names among the addresses of a route.
func hostNamesOf(r *mesh.Route, names map[string]struct{}) (found bool) {
	for _, group := range [][]mesh.Endpoint{r.Local, r.Gateways} {
		for _, e := range group {
			if name, _ := hostName(e.Address); name != "" {
				names[name] = struct{}{}
				found = true
			}
		}
	}
	return found
}

// hostName splits an address whose host is a name; of others the name is empty.
func hostName(address string) (name, port string) {
	if _, err := netip.ParseAddrPort(address); err == nil {
		return "", ""
	}
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", ""
	}
	return name, port
}
