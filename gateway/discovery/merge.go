package discovery

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Merged is several sources as one. Create it with [Merge].
type Merged struct {
	sources []Source
	store   state.Store[[]mesh.Service]
}

// Merge joins sources by service name, see [Union]: the first one's word counts
// most. It says nil until every
// source knows its set.
func Merge(sources ...Source) *Merged { return &Merged{sources: sources} }

// Snapshot returns the joined set and a channel that closes when it is past.
func (m *Merged) Snapshot() ([]mesh.Service, <-chan struct{}) { return m.store.Snapshot() }

// Run runs the sources and follows them until ctx ends or one of them fails.
func (m *Merged) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, s := range m.sources {
		all.Go(func() error { return s.Run(ctx) })
	}
	all.Go(func() error { m.follow(ctx); return nil })
	return all.Wait()
}

// follow joins the sources' sets anew whenever one of them changes.
func (m *Merged) follow(ctx context.Context) {
	sets, past := make([][]Service, len(m.sources)), make([]<-chan struct{}, len(m.sources))
	for {
		for i, s := range m.sources {
			sets[i], past[i] = s.Snapshot()
		}
		if !slices.ContainsFunc(sets, func(s []Service) bool { return s == nil }) {
			m.store.SetIfChanged(Union(sets...))
		}
		if !state.Await(ctx, past...) {
			return
		}
	}
}

// Union joins sets by service name. The earlier a set, the more its word counts:
// its protocol of a port, its word on the export, its names of endpoints. A port is
// exported when somebody says so for the whole service, and else when everybody who
// has endpoints there does: no flag of one offers the endpoints of another. An
// endpoint with the instance and address of an earlier one is dropped; one that only
// shares the instance's name is kept under another. A service without ports, which
// is all that a lone ServiceExport describes, is left out.
// The result is not nil, is sorted by name and shares nothing that changes.
func Union(sets ...[]Service) []mesh.Service {
	type joined struct {
		mesh.Service
		export *bool
	}
	byName := make(map[mesh.ServiceName]*joined)
	for _, set := range sets {
		for _, s := range set {
			into := byName[s.Name]
			if into == nil {
				into = &joined{Service: mesh.Service{Name: s.Name}}
				byName[s.Name] = into
			}
			into.Declared = into.Declared || s.Declared
			into.export = cmp.Or(into.export, s.Export)
			into.ClusterSet = cmp.Or(into.ClusterSet, s.ClusterSet)
			into.OtherPorts = into.OtherPorts || s.OtherPorts
			into.Headless = into.Headless || s.Headless
			if into.Addresses == nil {
				into.Addresses = s.Addresses
			}
			for _, p := range s.Ports {
				joinPort(&into.Service, p)
			}
		}
	}
	union := make([]mesh.Service, 0, len(byName))
	for _, s := range byName {
		if len(s.Ports) == 0 {
			continue
		}
		for i := range s.Ports {
			if s.export != nil {
				s.Ports[i].Exported = *s.export
			}
		}
		union = append(union, s.Service)
	}
	slices.SortFunc(union, func(a, b mesh.Service) int { return a.Name.Compare(b.Name) })
	return union
}

func joinPort(into *mesh.Service, p mesh.ServicePort) {
	i := slices.IndexFunc(into.Ports, func(q mesh.ServicePort) bool { return q.Port == p.Port })
	if i < 0 {
		p.Endpoints = slices.Clone(p.Endpoints)
		into.Ports = append(into.Ports, p)
		return
	}
	q := &into.Ports[i]
	q.Exported = q.Exported && p.Exported
	for _, e := range p.Endpoints {
		if slices.ContainsFunc(q.Endpoints, func(o mesh.Endpoint) bool { return o.Instance == e.Instance && o.Address == e.Address }) {
			continue
		}
		name := e.Instance
		for n := 2; slices.ContainsFunc(q.Endpoints, func(o mesh.Endpoint) bool { return o.Instance == e.Instance }); n++ {
			e.Instance = name + "-" + strconv.Itoa(n)
		}
		e.Weight = cmp.Or(e.Weight, 1)
		q.Endpoints = append(q.Endpoints, e)
	}
}
