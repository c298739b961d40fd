package mesh

import (
	"maps"
	"slices"
	"time"
)

// ClusterSet is what a cluster that exports a service by Kubernetes' Multi-Cluster Services
// API says of it beside the mesh's own words: what a ServiceImport shows (KEP-1645). The
// mesh carries it as it is, and routes by none of it. It never changes once it is published.
type ClusterSet struct {
	// Since is when the ServiceExport was created. Of clusters that disagree the one that
	// exported first counts.
	Since time.Time `json:"since"`
	// Headless: the service has no address of its own.
	Headless bool `json:"headless,omitempty"`
	// Ports are all of the service's, those included that the mesh does not carry, such as UDP's.
	Ports []ClusterSetPort `json:"ports,omitempty"`
	// SessionAffinity is "ClientIP" or, for none, empty, AffinityTimeout its seconds; 0: the
	// API's default.
	SessionAffinity string `json:"sessionAffinity,omitempty"`
	AffinityTimeout int32  `json:"affinityTimeout,omitempty"`
	// InternalTrafficPolicy and TrafficDistribution are the Service's; empty: not said.
	InternalTrafficPolicy string `json:"internalTrafficPolicy,omitempty"`
	TrafficDistribution   string `json:"trafficDistribution,omitempty"`
	// Labels and Annotations are those that the ServiceExport exports.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ClusterSetPort is one port of a ClusterSet.
type ClusterSetPort struct {
	Name        string `json:"name,omitempty"`
	Protocol    string `json:"protocol"` // TCP, UDP or SCTP
	Port        uint16 `json:"port"`
	AppProtocol string `json:"appProtocol,omitempty"`
}

// Equal reports whether c and o say the same; nil says nothing.
func (c *ClusterSet) Equal(o *ClusterSet) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.Since.Equal(o.Since) && c.Headless == o.Headless && slices.Equal(c.Ports, o.Ports) &&
		c.SessionAffinity == o.SessionAffinity && c.AffinityTimeout == o.AffinityTimeout &&
		c.InternalTrafficPolicy == o.InternalTrafficPolicy && c.TrafficDistribution == o.TrafficDistribution &&
		maps.Equal(c.Labels, o.Labels) && maps.Equal(c.Annotations, o.Annotations)
}
