package connect

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Instance names one instance of a service. In Isthmus-Exclude an empty Name
// stands for the whole cluster; in a reply each field is empty when the gateway
// did not say it.
type Instance struct {
	Cluster mesh.ClusterName
	Name    string
}

// String returns "cluster/name", or the cluster alone.
func (i Instance) String() string {
	if i.Name == "" {
		return string(i.Cluster)
	}
	return string(i.Cluster) + "/" + i.Name
}

// append appends what String returns.
func (i Instance) append(b []byte) []byte {
	b = append(b, i.Cluster...)
	if i.Name != "" {
		b = append(b, '/')
		b = append(b, i.Name...)
	}
	return b
}

// appendInstances appends the line of a header that lists instances, if there are any.
func appendInstances(b []byte, header string, all []Instance) []byte {
	for i, e := range all {
		if i == 0 {
			b = append(append(append(b, "\r\n"...), header...), ": "...)
		} else {
			b = append(b, ", "...)
		}
		b = e.append(b)
	}
	return b
}

// parseInstances reads the values of a header that lists instances.
func parseInstances(header string, values []string) ([]Instance, error) {
	var all []Instance
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			item = strings.TrimSpace(item)
			if item == "" {
				continue // RFC 9110 §5.6.1: empty list elements are ignored
			}
			if len(all) == maxInstances {
				return nil, fmt.Errorf("%s: more than %d entries", header, maxInstances)
			}
			cluster, name, one := strings.Cut(item, "/")
			if err := mesh.CheckLabel(cluster); err != nil {
				return nil, fmt.Errorf("%s: cluster: %w", header, err)
			}
			if one && !validName(name) {
				return nil, fmt.Errorf("%s: %q: write cluster or cluster/instance", header, item)
			}
			all = append(all, Instance{mesh.ClusterName(cluster), name})
		}
	}
	return all, nil
}

// validName reports whether s may be kept and written into a header: 1 to
// maxName visible ASCII characters without comma.
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ',' {
			return false
		}
	}
	return true
}
