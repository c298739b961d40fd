package imports

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Range are the ports of the entrance, First to Last; zero: this cluster has none.
type Range struct {
	First, Last uint16
}

func (r Range) size() int {
	if r.First == 0 || r.Last < r.First {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

func (r Range) has(n uint16) bool { return r.size() > 0 && n >= r.First && n <= r.Last }

// allocation says on which port of the entrance each port of each import is called.
type allocation map[mesh.ServiceName]map[uint16]uint16

// allocate gives every carried port of every import one port of the entrance. What
// ServiceImports have already, they keep; the others get the one that their name
// leads to, or the next that is free and does not rest. A namespace gets no more of them than stay free, so
// that what one exports leaves room for others. The error says which get none.
func allocate(imports []*Import, were []*mcs.ServiceImport, r Range, resting *resting) (allocation, error) {
	all := allocation{}
	wanted := make(map[mesh.ServiceName]*Import, len(imports))
	for _, i := range imports {
		wanted[i.Service] = i
		all[i.Service] = map[uint16]uint16{}
	}
	taken, held := map[uint16]bool{}, map[string]int{} // by whose namespace
	for at, to := range Entrances(were, r) {
		held[to.Service.Namespace]++
		taken[at] = true // also of who is to be removed: its callers are still there
		if i := wanted[to.Service]; i != nil && i.carried[to.Port] != nil {
			all[to.Service][to.Port] = at
		}
	}
	var none []string
	for _, i := range imports {
		for _, p := range i.ports {
			if i.carried[p.number] == nil || p.protocol != corev1.ProtocolTCP || all[i.Service][p.number] != 0 {
				continue
			}
			if held[i.Service.Namespace] >= r.size()-len(taken) {
				none = append(none, fmt.Sprintf("%s:%d", i.Service, p.number))
				continue
			}
			at, ok := r.free(mesh.Destination{Service: i.Service, Port: p.number}, taken, resting)
			if !ok {
				none = append(none, fmt.Sprintf("%s:%d", i.Service, p.number))
				continue
			}
			taken[at] = true
			held[i.Service.Namespace]++
			all[i.Service][p.number] = at
		}
	}
	if len(none) > 0 && r.size() > 0 {
		return all, fmt.Errorf("%d ports of imports have no port of the entrance, the first is %s: widen entrance.ports", len(none), none[0])
	}
	return all, nil
}

// free returns the port that d's name leads to, or the next that nobody has. One that rests
// is taken when there is no other.
func (r Range) free(d mesh.Destination, taken map[uint16]bool, resting *resting) (uint16, bool) {
	size := r.size()
	if size == 0 || len(taken) >= size {
		return 0, false
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.String()))
	start := int(h.Sum32() % uint32(size)) //nolint:gosec // at most 65535
	for n := range size {
		if at := r.First + uint16((start+n)%size); !taken[at] && resting.takes(at, d) { //nolint:gosec // as above
			return at, true
		}
	}
	return resting.longest(taken)
}

// entranceOf writes ports, the port of the entrance for each port of an import, as the
// annotation [entranceAnnotation] has them: "80=20080,81=20081".
func entranceOf(ports map[uint16]uint16) string {
	var list []string
	for _, p := range slices.Sorted(maps.Keys(ports)) {
		list = append(list, fmt.Sprintf("%d=%d", p, ports[p]))
	}
	return strings.Join(list, ",")
}

// Entrances returns what ServiceImports say: on which port of the entrance which service
// is called. Of two that say the same port the one that was created first counts.
func Entrances(all []*mcs.ServiceImport, r Range) map[uint16]mesh.Destination {
	ports := map[uint16]mesh.Destination{}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *mcs.ServiceImport) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, o := range all {
		if o.Labels[labelManaged] != managedBy {
			continue
		}
		for pair := range strings.SplitSeq(o.Annotations[entranceAnnotation], ",") {
			of, at, _ := strings.Cut(pair, "=")
			port, err := strconv.ParseUint(of, 10, 16)
			entry, err2 := strconv.ParseUint(at, 10, 16)
			if _, taken := ports[uint16(entry)]; err != nil || err2 != nil || port == 0 || !r.has(uint16(entry)) || taken {
				continue
			}
			ports[uint16(entry)] = mesh.Destination{Service: mesh.ServiceName{Namespace: o.Namespace, Name: o.Name}, Port: uint16(port)}
		}
	}
	return ports
}

// importOf returns which import a derived Service is of; false: it is none. Whoever may write
// Services can make one that looks like it, so that nothing but its addresses is read.
func importOf(s *corev1.Service) (mesh.ServiceName, bool) {
	name := mesh.ServiceName{Namespace: s.Namespace, Name: s.Labels[kube.ImportLabel]}
	if mesh.CheckLabel(name.Name) != nil || s.Name != derivedName(name) || s.Labels[labelManaged] != managedBy {
		return mesh.ServiceName{}, false
	}
	return name, true
}

// carriedPorts returns the ports of i that the entrance can take, in i's order.
func (i *Import) carriedPorts() []port {
	return slices.DeleteFunc(slices.Clone(i.ports), func(p port) bool {
		return p.protocol != corev1.ProtocolTCP || i.carried[p.number] == nil
	})
}
