package mesh

import (
	"fmt"
	"slices"
	"strings"
)

// Imports say what a gateway takes of other clusters: for each cluster what is named, and of
// one that is not a key what stands under [AnyCluster], or everything when that is no key
// either.
type Imports map[ClusterName][]Import

// AnyCluster stands for every cluster that is no key of Imports itself.
const AnyCluster ClusterName = "*"

// Import names one service, or with Name empty every service of a namespace.
type Import ServiceName

// ParseImport reads "shop" or "shop/orders".
func ParseImport(s string) (Import, error) {
	if !strings.Contains(s, "/") {
		if err := CheckLabel(s); err != nil {
			return Import{}, fmt.Errorf("%q: write a namespace such as shop, or a service such as shop/orders: %w", s, err)
		}
		return Import{Namespace: s}, nil
	}
	name, err := ParseServiceName(s)
	return Import(name), err
}

// String is what ParseImport reads.
func (i Import) String() string {
	if i.Name == "" {
		return i.Namespace
	}
	return ServiceName(i).String()
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (i *Import) UnmarshalText(b []byte) (err error) {
	*i, err = ParseImport(string(b))
	return err
}

// MarshalText implements [encoding.TextMarshaler].
func (i Import) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// Confine reports whether anything is said of the cluster.
func (im Imports) Confine(c ClusterName) bool {
	_, named := im[c]
	_, all := im[AnyCluster]
	return named || all
}

// Takes reports whether a service of the cluster is taken.
func (im Imports) Takes(c ClusterName, s ServiceName) bool {
	names, named := im[c]
	if !named {
		if names, named = im[AnyCluster]; !named {
			return true
		}
	}
	return slices.ContainsFunc(names, func(i Import) bool {
		return i.Namespace == s.Namespace && (i.Name == "" || i.Name == s.Name)
	})
}
