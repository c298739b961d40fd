package checked

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Describer is where the services come from whose endpoints are checked. Its
// methods are those of a [discovery.Source].
type Describer interface {
	Snapshot() ([]discovery.Described, <-chan struct{})
	Run(ctx context.Context) error
}

// Source is a discovery.Source: the described services with Ready telling
// which endpoints answer. Create it with [New].
type Source struct {
	from    Describer
	log     *slog.Logger
	metrics metrics
	store   state.Store[[]discovery.Service]
	results chan result
	slots   chan struct{} // holds one entry per running check

	// Owned by Run's goroutine.
	set     []discovery.Described
	watched map[endpoint]*watch
	unknown int // of watched, not checked once
}

// endpoint is what is checked: when any of it changes it is another one.
type endpoint struct {
	service  mesh.ServiceName
	port     uint16
	instance string
	address  string
	check    health.Check
}

type watch struct {
	stop   context.CancelFunc
	known  bool
	ready  bool
	number uint64 // tells late results of a stopped watch from its successor's
}

type result struct {
	endpoint endpoint
	number   uint64
	ready    bool
	err      error
}

// New returns the source that checks what from describes and opens nothing. A
// nil log discards, a nil registerer means that its metrics are not registered.
func New(from Describer, log *slog.Logger, registerer prometheus.Registerer) (*Source, error) {
	m, err := newMetrics(registerer)
	return &Source{
		from:    from,
		log:     cmp.Or(log, slog.New(slog.DiscardHandler)),
		metrics: m,
		results: make(chan result),
		slots:   make(chan struct{}, maxProbes),
		watched: map[endpoint]*watch{},
	}, err
}

// Snapshot returns the services and a channel that closes when they are past.
// Nil until every endpoint of the first set has been checked once, or has had
// two seconds to be.
func (s *Source) Snapshot() ([]discovery.Service, <-chan struct{}) { return s.store.Snapshot() }

// Run runs the describer and checks what it describes, until ctx ends or the
// describer fails.
func (s *Source) Run(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return s.from.Run(ctx) })
	both.Go(func() error { s.follow(ctx); return nil })
	return both.Wait()
}

// follow checks the described endpoints and shows what it finds.
func (s *Source) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var checks sync.WaitGroup
	defer checks.Wait()
	defer cancel()

	var number uint64
	var due <-chan time.Time      // when the set is shown; nil: it is
	var deadline <-chan time.Time // of the first checks; nil: none is awaited, or they are overdue
	overdue := false              // the set is shown even though some are unknown
	set, past := s.from.Snapshot()
	for {
		if set != nil {
			s.set = set
			s.watchAll(func(e endpoint) *watch {
				number++
				w := &watch{number: number}
				w.stop = s.start(ctx, &checks, e, number)
				return w
			})
			if s.unknown > 0 && deadline == nil { // more of them do not put off the others
				deadline, overdue = time.After(patience), false
			}
			due = time.After(0)
		}
	following:
		for {
			if due != nil && s.unknown > 0 && !overdue {
				due = nil // asked for again by the last missing result, or the deadline
			}
			if s.unknown == 0 {
				deadline = nil
			}
			select {
			case <-ctx.Done():
				return
			case <-past:
				set, past = s.from.Snapshot()
				break following
			case r := <-s.results:
				if s.apply(r) && due == nil {
					due = time.After(settle)
				}
			case <-deadline:
				deadline, overdue = nil, true
				due = time.After(0)
			case <-due:
				due = nil
				s.show()
			}
		}
	}
}

// watchAll makes s.watched what s.set needs; start begins to watch an endpoint.
func (s *Source) watchAll(start func(endpoint) *watch) {
	wanted := map[endpoint]bool{}
	for _, d := range s.set {
		for _, p := range d.Service.Ports {
			for _, e := range p.Endpoints {
				wanted[endpointOf(d, p, e)] = true
			}
		}
	}
	for e, w := range s.watched {
		if !wanted[e] {
			w.stop()
			delete(s.watched, e)
			if !w.known {
				s.unknown--
			}
		}
	}
	for e := range wanted {
		if s.watched[e] == nil {
			s.watched[e] = start(e)
			s.unknown++
		}
	}
}

func endpointOf(d discovery.Described, p mesh.ServicePort, e mesh.Endpoint) endpoint {
	return endpoint{d.Service.Name, p.Port, e.Instance, e.Address, d.Check}
}

// start begins to check e on a goroutine that ends when stop is called.
func (s *Source) start(ctx context.Context, checks *sync.WaitGroup, e endpoint, number uint64) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	probe := func(ctx context.Context) error {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-s.slots }()
		err := e.check.Probe(ctx, e.address)
		if err == nil {
			s.metrics.passed.Inc()
		} else {
			s.metrics.failed.Inc()
		}
		return err
	}
	report := func(ready bool, err error) {
		select {
		case s.results <- result{e, number, ready, err}:
		case <-ctx.Done():
		}
	}
	checks.Go(func() { health.Watch(ctx, e.check, probe, report) })
	return stop
}

// apply records a result and reports whether that changes what is shown.
func (s *Source) apply(r result) bool {
	w := s.watched[r.endpoint]
	if w == nil || w.number != r.number {
		return false
	}
	if !w.known {
		s.unknown--
	}
	changed := !w.known || w.ready != r.ready
	log := s.log.With("service", r.endpoint.service.String(), "instance", r.endpoint.instance, "addr", r.endpoint.address)
	switch {
	case r.ready:
		log.Info("endpoint is ready")
	default:
		log.Warn("endpoint is not ready: it does not pass its health check", "err", r.err)
	}
	w.known, w.ready = true, r.ready
	return changed
}

// show gives readers the set with what is known of its endpoints.
func (s *Source) show() {
	var ready, unready int
	services := make([]discovery.Service, 0, len(s.set))
	for _, d := range s.set {
		out := d.Service
		out.Ports = slices.Clone(out.Ports)
		for i := range out.Ports {
			p := &out.Ports[i]
			p.Endpoints = slices.Clone(p.Endpoints)
			for j := range p.Endpoints {
				e := &p.Endpoints[j]
				e.Weight = cmp.Or(e.Weight, 1)
				w := s.watched[endpointOf(d, *p, *e)]
				e.Ready = w != nil && w.ready
				if e.Ready {
					ready++
				} else {
					unready++
				}
			}
		}
		services = append(services, out)
	}
	s.metrics.ready.Set(float64(ready))
	s.metrics.unready.Set(float64(unready))
	s.store.SetIfChanged(services)
}
