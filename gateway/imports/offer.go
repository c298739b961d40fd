package imports

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Offer is one cluster's export of a service.
type Offer struct {
	Cluster  mesh.ClusterName
	Founding identity.Founding // zero: not known, which is after all others
	Export   mesh.Export
}

// before reports whether o's word counts before p's.
func (o *Offer) before(p *Offer) bool {
	a, b := o.Export.ClusterSet, p.Export.ClusterSet
	switch {
	case (a == nil) != (b == nil):
		return a != nil
	case a != nil && !a.Since.Equal(b.Since):
		return a.Since.Before(b.Since)
	case o.Founding.IsZero() != p.Founding.IsZero():
		return p.Founding.IsZero()
	}
	return cmp.Or(o.Founding.Compare(p.Founding), cmp.Compare(o.Cluster, p.Cluster)) < 0
}

// port is one port of an import, as a ServiceImport has it.
type port struct {
	name        string
	protocol    corev1.Protocol
	number      uint16
	appProtocol string
}

// ports returns what an offer says of its ports: those of its Service, where a
// ServiceExport says them, and else those of the mesh under names that follow from them.
func (o *Offer) ports() []port {
	var all []port
	if c := o.Export.ClusterSet; c != nil {
		for _, p := range c.Ports {
			q := port{p.Name, corev1.Protocol(p.Protocol), p.Port, p.AppProtocol}
			if q.valid() {
				all = append(all, q)
			}
		}
		return all
	}
	for _, p := range o.Export.Ports {
		all = append(all, port{portName(p.Protocol, p.Port), corev1.ProtocolTCP, p.Port, appProtocols[p.Protocol]})
	}
	return all
}

func portName(p mesh.Protocol, number uint16) string {
	return string(p) + "-" + strconv.Itoa(int(number))
}

// appProtocols are the words of Kubernetes for what the mesh calls protocols.
var appProtocols = map[mesh.Protocol]string{mesh.HTTP: "http", mesh.HTTP2: "kubernetes.io/h2c", mesh.GRPC: "grpc"}

// valid reports whether an API server takes p: another cluster's word may be anything.
func (p *port) valid() bool {
	return p.number > 0 && (p.name == "" || len(validation.IsDNS1123Label(p.name)) == 0) &&
		(p.protocol == corev1.ProtocolTCP || p.protocol == corev1.ProtocolUDP || p.protocol == corev1.ProtocolSCTP) &&
		(p.appProtocol == "" || len(validation.IsQualifiedName(p.appProtocol)) == 0)
}

// affinity is the session affinity that an offer says, and its seconds; 0: none said.
func affinity(c *mesh.ClusterSet) (corev1.ServiceAffinity, int32) {
	if c.SessionAffinity != string(corev1.ServiceAffinityClientIP) {
		return corev1.ServiceAffinityNone, 0
	}
	if c.AffinityTimeout <= 0 || c.AffinityTimeout > 86400 { // what an API server takes
		return corev1.ServiceAffinityClientIP, 0
	}
	return corev1.ServiceAffinityClientIP, c.AffinityTimeout
}

// trafficPolicy and distribution are empty for what no API server takes.
func trafficPolicy(c *mesh.ClusterSet) corev1.ServiceInternalTrafficPolicy {
	switch p := corev1.ServiceInternalTrafficPolicy(c.InternalTrafficPolicy); p {
	case corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal:
		return p
	}
	return ""
}

func distribution(c *mesh.ClusterSet) string {
	if len(validation.IsQualifiedName(c.TrafficDistribution)) > 0 {
		return ""
	}
	return c.TrafficDistribution
}

// ours are the prefixes of labels and annotations that nobody exports.
var ours = []string{"isthmus.io/", "multicluster.kubernetes.io/", "app.kubernetes.io/managed-by", "kubernetes.io/", "kubectl.kubernetes.io/"}

const maxMetadata = 64 // labels, and as many annotations, of an import

// exported returns the labels or annotations of an offer that an API server takes, without
// those that mean something to us. Nil: there are none.
func exported(m map[string]string, labels bool) map[string]string {
	var out map[string]string
	for k, v := range m {
		switch {
		case slices.ContainsFunc(ours, func(p string) bool { return strings.HasPrefix(k, p) }),
			len(validation.IsQualifiedName(strings.ToLower(k))) > 0,
			labels && len(validation.IsValidLabelValue(v)) > 0, len(out) == maxMetadata:
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out
}
