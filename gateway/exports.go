package gateway

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// exportsOf returns what other clusters are told of services, in the order in which it
// is to be left out when it is too much, the last first: what the operator's resources
// declare stays longest, and namespaces take turns, so that a thousand services of one
// cost no other its few. terminator is the SPIFFE ID that answers for endpoints without
// one of their own.
func exportsOf(services []mesh.Service, terminator string) []mesh.Export {
	turns := map[string]int{} // of each namespace that declares, and those that do not
	type export struct {
		service *mesh.Service
		turn    int
	}
	var all []export
	for i := range services {
		s := &services[i]
		if !s.Exported() {
			continue
		}
		who := s.Name.Namespace
		if s.Declared {
			who += "/declared" // no namespace is called so
		}
		all = append(all, export{s, turns[who]})
		turns[who]++
	}
	slices.SortFunc(all, func(a, b export) int {
		if a.service.Declared != b.service.Declared {
			if a.service.Declared {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.turn, b.turn), a.service.Name.Compare(b.service.Name))
	})
	exports := make([]mesh.Export, 0, len(all))
	for _, e := range all {
		exports = append(exports, mesh.ExportOf(e.service, terminator))
	}
	return exports
}
