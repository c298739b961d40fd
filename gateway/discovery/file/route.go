package file

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// routes joins the files' last good contents. Of two routes with one name the first is
// believed, and the clash of the other says so.
func (f *folder) routes() *traffic.Set {
	set := &traffic.Set{}
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		e, path := f.files[name], filepath.Join(f.dir, name)
		for i := range e.last.Routes {
			route := &e.last.Routes[i]
			if other := first[route.String()]; other != "" {
				e.clash = errors.Join(e.clash, strictyaml.Fault{Source: path, Line: route.Line, Key: "metadata.name",
					Problem: fmt.Sprintf("%s is at %s already, which is used: remove one", &route.Route, other)})
				continue
			}
			if len(set.Routes) >= maxRoutes {
				e.clash = errors.Join(e.clash, strictyaml.Fault{Source: path, Line: route.Line, Problem: fmt.Sprintf("is one route too many: at most %d are read", maxRoutes)})
				continue
			}
			first[route.String()] = fmt.Sprintf("%s:%d", path, route.Line)
			set.Routes = append(set.Routes, route.Route)
		}
		set.Grants = append(set.Grants, e.last.Grants...)
	}
	return set
}
