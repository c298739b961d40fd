package gateway

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// conflicts are the ports of which not every cluster's offer counts. It is
// immutable and pure, made from a view and the services of this cluster.
type conflicts map[servicePort]conflict

type servicePort struct {
	service mesh.ServiceName
	port    uint16
}

// conflict is what is said of one port, and whose word counts of its protocol: this
// cluster's own, else that of the one that was founded first of those that offer it
// with identity. Foundings stand in certificates that the root signs, and all gateways
// know the same ones, whatever they reach and since when. How old an export is only its
// own cluster could say after a restart, and it could say anything.
type conflict struct {
	said    map[mesh.ClusterName]mesh.Protocol
	inForce mesh.ClusterName
	plain   map[mesh.ClusterName]bool // other clusters left out: a gateway would answer, and of another cluster who serves does
	lately  bool                      // who served did, and nobody serves so now, see proven
}

// declaration is what one cluster says of a port.
type declaration struct {
	cluster  mesh.ClusterName
	protocol mesh.Protocol
	founding identity.Founding
	own      bool
	plain    bool // nobody but gateways answers
	proved   bool // who serves answers with an identity of its own
}

// lately is who answered with identity until a moment ago.
func conflictsOf(view *federation.View, local []mesh.Service, lately provers) conflicts {
	own := make(map[mesh.ServiceName]*mesh.Service, len(local))
	for i := range local {
		own[local[i].Name] = &local[i]
	}
	all := conflicts{}
	for _, name := range view.Services() {
		exports := view.Exports(name)
		if own[name] == nil && len(exports) == 1 && !lately.had(&exports[0].Export) {
			continue
		}
		ports := map[uint16][]declaration{}
		if s := own[name]; s != nil {
			for _, p := range s.Ports {
				ports[p.Port] = append(ports[p.Port], declaration{cluster: view.Self.Cluster, protocol: p.Protocol, own: true, proved: servesProved(&p)})
			}
		}
		for _, x := range exports {
			for _, p := range x.Export.Ports {
				ports[p.Port] = append(ports[p.Port], declaration{cluster: x.Cluster, protocol: p.Protocol, founding: x.Founding,
					plain: p.Plain, proved: offersProved(&p)})
			}
		}
		for port, said := range ports {
			if c, ok := conflictOf(said, lately[servicePort{name, port}]); ok {
				all[servicePort{name, port}] = c
			}
		}
	}
	return all
}

// conflictOf judges what clusters say of one port; false: all of it counts. What was a
// cluster's own lately does not count against it: it says itself that it is plain now.
func conflictOf(said []declaration, lately []mesh.ClusterName) (conflict, bool) {
	c := conflict{said: make(map[mesh.ClusterName]mesh.Protocol, len(said)), plain: map[mesh.ClusterName]bool{}}
	proved := slices.ContainsFunc(said, func(d declaration) bool { return d.proved })
	c.lately = !proved
	first := declaration{}
	for _, d := range said {
		c.said[d.cluster] = d.protocol
		if d.plain && (proved || slices.ContainsFunc(lately, func(by mesh.ClusterName) bool { return by != d.cluster })) {
			c.plain[d.cluster] = true
		} else if first.cluster == "" || d.before(first) {
			first = d
		}
	}
	c.inForce = first.cluster
	differs := slices.ContainsFunc(said, func(d declaration) bool { return d.protocol != first.protocol })
	return c, differs || len(c.plain) > 0
}

// before reports whether d's word counts before o's. One whose founding is not known
// is after all others.
func (d declaration) before(o declaration) bool {
	if d.own != o.own {
		return d.own
	}
	if d.founding.IsZero() != o.founding.IsZero() {
		return o.founding.IsZero()
	}
	return cmp.Or(d.founding.Compare(o.founding), cmp.Compare(d.cluster, o.cluster)) < 0
}

// leftOut says why a cluster's port is not among those that serve a destination; empty:
// it is. Who names the cluster is served all the same.
func (c conflicts) leftOut(d mesh.Destination, cluster mesh.ClusterName) string {
	x, ok := c[servicePort{d.Service, d.Port}]
	switch {
	case !ok || d.Cluster != "":
		return ""
	case x.plain[cluster] && x.lately:
		return fmt.Sprintf("its endpoints have no identity, and those that others had until lately are awaited for %.0f minutes; name the cluster to call it now", rememberFor.Minutes())
	case x.plain[cluster]:
		return "its endpoints have no identity, and those of another cluster have"
	case x.said[cluster] != x.said[x.inForce]:
		return fmt.Sprintf("it declares port %d with protocol %s, cluster %s with %s", d.Port, x.said[cluster], x.inForce, x.said[x.inForce])
	}
	return ""
}

// differ reports whether clusters declare the port with different protocols.
func (x conflict) differ() bool {
	for _, p := range x.said {
		if p != x.said[x.inForce] {
			return true
		}
	}
	return false
}

// status returns the conflicts as /status has them, sorted.
func (c conflicts) status() []status.Conflict {
	var all []status.Conflict
	for p, x := range c {
		if x.differ() {
			all = append(all, status.Conflict{Service: p.service, Port: p.port, Protocols: x.said, InForce: x.inForce})
		}
	}
	slices.SortFunc(all, func(a, b status.Conflict) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port))
	})
	return all
}

// logChanges says which conflicts are new since before, and which are gone.
func (c conflicts) logChanges(before conflicts, log *slog.Logger) {
	for _, x := range c.status() {
		was, ok := before[servicePort{x.Service, x.Port}]
		if !ok || !was.differ() || was.inForce != x.InForce || !maps.Equal(was.said, x.Protocols) {
			log.Warn("clusters declare a port with different protocols: those that say otherwise than the one in force get nothing; declare one",
				"service", x.Service.String(), "port", x.Port, "declared", declared(x.Protocols), "in_force", x.InForce)
		}
	}
	for _, x := range before.status() {
		if now, ok := c[servicePort{x.Service, x.Port}]; !ok || !now.differ() {
			log.Info("clusters agree on the protocol of a port again", "service", x.Service.String(), "port", x.Port)
		}
	}
}

// declared lists who says what, such as "east tcp, west http".
func declared(protocols map[mesh.ClusterName]mesh.Protocol) string {
	var all []string
	for _, c := range slices.Sorted(maps.Keys(protocols)) {
		all = append(all, fmt.Sprintf("%s %s", c, protocols[c]))
	}
	return strings.Join(all, ", ")
}
