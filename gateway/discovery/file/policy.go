package file

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// policies joins the files' last good contents; the later of two with one name counts
// as well, and its clash says so. Unknown is not empty: it says why they are not known
// while a file has never been read well, or a namespace has too many of them, since
// what is left out might refuse.
func (f *folder) policies() (all []policy.Policy, unknown string) {
	all = []policy.Policy{}
	count, size := map[string]int{}, map[string]int{}
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		e := f.files[name]
		if e.loaded.IsZero() {
			return nil, fmt.Sprintf("%s has never been read well", name)
		}
		path := filepath.Join(f.dir, name)
		for _, p := range e.last.Policies {
			if count[p.Namespace]++; count[p.Namespace] > policy.MaxPolicies {
				return nil, fmt.Sprintf("namespace %s has more than %d policies", p.Namespace, policy.MaxPolicies)
			}
			if size[p.Namespace] += p.Size(); size[p.Namespace] > policy.MaxBytes {
				return nil, fmt.Sprintf("the policies of namespace %s are larger than %d KiB together", p.Namespace, policy.MaxBytes>>10)
			}
			at := fmt.Sprintf("%s:%d", path, p.Line)
			if other := first[p.String()]; p.Name != "" && other != "" {
				e.clash = errors.Join(e.clash, strictyaml.Fault{Source: path, Line: p.Line, Key: "metadata.name",
					Problem: fmt.Sprintf("%s is at %s already, and both are in force: remove one", p.Policy.String(), other)})
			}
			first[p.String()] = at
			all = append(all, p.Policy)
		}
	}
	return all, ""
}
