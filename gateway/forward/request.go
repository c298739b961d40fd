package forward

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Header names of the path protocol. See the package comment.
const (
	HeaderExclude     = "Isthmus-Exclude"
	HeaderCluster     = "Isthmus-Cluster"
	HeaderInstance    = "Isthmus-Instance"
	HeaderProxyStatus = "Proxy-Status" // RFC 9209
)

// Request is what a client asks for: a path to a destination.
type Request struct {
	// Destination is the service port. Port 0, when SNI named the service,
	// stands for its first.
	Destination mesh.Destination
	Exclude     []Exclusion
	// Load returns how many paths this gateway now runs to the candidate with
	// the given [Candidate.Key]. Never nil when forward asks.
	Load func(key string) int
}

// Candidate is one way to serve a request: a gateway of another cluster, or an
// endpoint of this one.
type Candidate struct {
	// Gateway is the far gateway; zero for an endpoint of this cluster.
	Gateway mesh.GatewayID
	// RTT is the smoothed round-trip time to Gateway.
	RTT time.Duration

	// Endpoint is the instance, when Gateway is zero.
	Endpoint mesh.Endpoint

	// Port is the service's port that was asked for, never 0, and Protocol
	// what it speaks.
	Port     uint16
	Protocol mesh.Protocol
}

// Remote reports whether c is a gateway of another cluster.
func (c *Candidate) Remote() bool { return !c.Gateway.IsZero() }

// Key names what c leads to, as [Request.Load] counts it: "cluster/gateway" or
// "host:port".
func (c *Candidate) Key() string {
	if c.Remote() {
		return c.Gateway.String()
	}
	return c.Endpoint.Address
}

// String names c for logs and refusals.
func (c *Candidate) String() string {
	if c.Remote() {
		return c.Gateway.String()
	}
	return c.Endpoint.Instance
}

// Exclusion names a cluster, or one instance of it, that shall not serve.
type Exclusion struct {
	Cluster  mesh.ClusterName
	Instance string // empty: the whole cluster
}

// String returns the form in Isthmus-Exclude.
func (e Exclusion) String() string {
	if e.Instance == "" {
		return string(e.Cluster)
	}
	return string(e.Cluster) + "/" + e.Instance
}

// ExcludesCluster reports whether the whole cluster is excluded.
func (r *Request) ExcludesCluster(c mesh.ClusterName) bool {
	return slices.Contains(r.Exclude, Exclusion{Cluster: c})
}

// ExcludesInstance reports whether the instance, or its whole cluster, is excluded.
func (r *Request) ExcludesInstance(c mesh.ClusterName, instance string) bool {
	return r.ExcludesCluster(c) || slices.Contains(r.Exclude, Exclusion{c, instance})
}

// parseExclude reads the values of Isthmus-Exclude.
func parseExclude(values []string) ([]Exclusion, error) {
	var all []Exclusion
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			item = strings.TrimSpace(item)
			if item == "" {
				continue // RFC 9110 §5.6.1: empty list elements are ignored
			}
			if len(all) == maxExcludes {
				return nil, fmt.Errorf("%s: more than %d entries", HeaderExclude, maxExcludes)
			}
			cluster, instance, pinned := strings.Cut(item, "/")
			if err := mesh.CheckLabel(cluster); err != nil {
				return nil, fmt.Errorf("%s: cluster: %w", HeaderExclude, err)
			}
			if pinned && !validInstance(instance) {
				return nil, fmt.Errorf("%s: %q: write cluster or cluster/instance", HeaderExclude, item)
			}
			all = append(all, Exclusion{mesh.ClusterName(cluster), instance})
		}
	}
	return all, nil
}

// formatExclude is the inverse of parseExclude.
func formatExclude(all []Exclusion) string {
	items := make([]string, len(all))
	for i, e := range all {
		items[i] = e.String()
	}
	return strings.Join(items, ", ")
}

// validInstance reports whether s can stand in a header: 1 to 253 visible ASCII
// characters without comma.
func validInstance(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ',' {
			return false
		}
	}
	return true
}
