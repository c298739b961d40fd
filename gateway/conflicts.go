package gateway

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// conflicts are the ports that clusters declare with different protocols. It is
// immutable and pure, made from a view and the services of this cluster.
type conflicts map[servicePort]conflict

type servicePort struct {
	service mesh.ServiceName
	port    uint16
}

// conflict is what is said of one port, and whose word counts: this cluster's own, else
// that of the first cluster by name. That is no better than another rule, but one by
// which all gateways decide the same, whatever they reach and since when: how old an
// export is nobody knows after a restart of those who made it.
type conflict struct {
	said    map[mesh.ClusterName]mesh.Protocol
	inForce mesh.ClusterName
}

func conflictsOf(view *federation.View, local []mesh.Service) conflicts {
	own := make(map[mesh.ServiceName]*mesh.Service, len(local))
	for i := range local {
		own[local[i].Name] = &local[i]
	}
	all := conflicts{}
	for _, name := range view.Services() {
		exports := view.Exports(name)
		if own[name] == nil && len(exports) == 1 {
			continue
		}
		ports := map[uint16]map[mesh.ClusterName]mesh.Protocol{}
		say := func(cluster mesh.ClusterName, port uint16, p mesh.Protocol) {
			if ports[port] == nil {
				ports[port] = map[mesh.ClusterName]mesh.Protocol{}
			}
			ports[port][cluster] = p
		}
		if s := own[name]; s != nil {
			for _, p := range s.Ports {
				say(view.Self.Cluster, p.Port, p.Protocol)
			}
		}
		for _, x := range exports {
			for _, p := range x.Export.Ports {
				say(x.Cluster, p.Port, p.Protocol)
			}
		}
		for port, said := range ports {
			clusters := slices.Sorted(maps.Keys(said))
			inForce := clusters[0]
			if _, ours := said[view.Self.Cluster]; ours {
				inForce = view.Self.Cluster
			}
			if slices.ContainsFunc(clusters, func(c mesh.ClusterName) bool { return said[c] != said[inForce] }) {
				all[servicePort{name, port}] = conflict{said, inForce}
			}
		}
	}
	return all
}

// leftOut says why a cluster's port is not among those that serve a destination; empty:
// it is. Who names the cluster is served all the same.
func (c conflicts) leftOut(d mesh.Destination, cluster mesh.ClusterName) string {
	x, ok := c[servicePort{d.Service, d.Port}]
	if !ok || d.Cluster != "" || x.said[cluster] == x.said[x.inForce] {
		return ""
	}
	return fmt.Sprintf("it declares port %d with protocol %s, cluster %s with %s", d.Port, x.said[cluster], x.inForce, x.said[x.inForce])
}

// status returns the conflicts as /status has them, sorted.
func (c conflicts) status() []status.Conflict {
	var all []status.Conflict
	for p, x := range c {
		all = append(all, status.Conflict{Service: p.service, Port: p.port, Protocols: x.said, InForce: x.inForce})
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
		if !ok || was.inForce != x.InForce || !maps.Equal(was.said, x.Protocols) {
			log.Warn("clusters declare a port with different protocols: those that say otherwise than the one in force get nothing; declare one",
				"service", x.Service.String(), "port", x.Port, "declared", declared(x.Protocols), "in_force", x.InForce)
		}
	}
	for _, x := range before.status() {
		if _, ok := c[servicePort{x.Service, x.Port}]; !ok {
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
