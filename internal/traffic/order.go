package traffic

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// candidate is one match of one rule of a route.
type candidate struct {
	route *Route
	match Match
	out   mesh.Rule
}

// sortCandidates brings what is attached to one parent into the order in which it counts. They come
// as they are written.
func sortCandidates(all []candidate) {
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(compareMatches(&b.match, &a.match), compareAge(a.route, b.route))
	})
}

// compareMatches orders by how much a match asks for; the greater counts first.
func compareMatches(a, b *Match) int {
	if a.GRPC {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.method, b.method), cmp.Compare(len(a.Headers), len(b.Headers)))
	}
	return cmp.Or(
		cmp.Compare(pathRank(a.Path.Kind), pathRank(b.Path.Kind)),
		cmp.Compare(len(a.Path.Value), len(b.Path.Value)),
		cmp.Compare(asks(a.Method != ""), asks(b.Method != "")),
		cmp.Compare(len(a.Headers), len(b.Headers)),
		cmp.Compare(len(a.Query), len(b.Query)))
}

// pathRank orders the kinds of path matches. Where a regular expression stands is each
// implementation's own choice. No path at all is the prefix "/".
func pathRank(k mesh.MatchKind) int {
	switch k {
	case mesh.Exact:
		return 3
	case mesh.Regex:
		return 2
	case mesh.Prefix:
		return 1
	}
	return 0
}

func asks(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// compareAge orders routes: the older one first, then by namespace/name.
func compareAge(a, b *Route) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
}
