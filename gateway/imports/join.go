package imports

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Import is what all clusters that export a service are together. It is immutable.
type Import struct {
	Service  mesh.ServiceName
	Clusters []mesh.ClusterName // that export it, sorted
	Headless bool

	ports    []port                        // in the order of precedence
	carried  map[uint16][]mesh.ClusterName // TCP ports that the mesh carries, and who exports them, sorted
	affinity corev1.ServiceAffinity
	timeout  int32 // seconds; 0: not said
	policy   corev1.ServiceInternalTrafficPolicy
	traffic  string
	labels   map[string]string
	notes    map[string]string // annotations

	Conflicts []Conflict // in the order of the API's reasons
}

// Conflict is one thing about which exporters differ.
type Conflict struct {
	Reason  mcs.ServiceExportConditionReason
	Message string
}

// Join makes one import of what clusters offer of a service; there is one offer at least.
func Join(service mesh.ServiceName, offers []Offer) *Import {
	offers = slices.Clone(offers)
	slices.SortFunc(offers, func(a, b Offer) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	i := &Import{Service: service, carried: map[uint16][]mesh.ClusterName{}, affinity: corev1.ServiceAffinityNone}
	for n := range offers {
		o := &offers[n]
		i.Clusters = append(i.Clusters, o.Cluster)
		i.addPorts(o)
	}
	slices.Sort(i.Clusters)
	for _, by := range i.carried {
		slices.Sort(by)
	}
	if first := offers[0].Export.ClusterSet; first != nil {
		i.Headless = first.Headless
		i.affinity, i.timeout = affinity(first)
		i.policy, i.traffic = trafficPolicy(first), distribution(first)
		i.labels, i.notes = exported(first.Labels, true), exported(first.Annotations, false)
	}
	i.Conflicts = conflictsOf(offers)
	return i
}

// addPorts adds those of an offer that fit what is there.
func (i *Import) addPorts(o *Offer) {
	for _, p := range o.ports() {
		clashes := slices.ContainsFunc(i.ports, func(q port) bool {
			return q.name == p.name || q.protocol == p.protocol && q.number == p.number
		})
		if !clashes {
			i.ports = append(i.ports, p)
		}
	}
	for _, p := range o.Export.Ports {
		listed := slices.ContainsFunc(i.ports, func(q port) bool { return q.protocol == corev1.ProtocolTCP && q.number == p.Port })
		if listed {
			i.carried[p.Port] = append(i.carried[p.Port], o.Cluster)
		}
	}
}

// conflictsOf says about what exporters differ. Who exports without a ServiceExport
// says only which ports there are.
func conflictsOf(offers []Offer) []Conflict {
	var all []Conflict
	first := &offers[0]
	differ := func(reason mcs.ServiceExportConditionReason, what string, same func(a, b *Offer) bool, say func(*Offer) string) {
		var others []string
		for n := range offers[1:] {
			if o := &offers[n+1]; !same(first, o) {
				others = append(others, fmt.Sprintf("%s %s", o.Cluster, say(o)))
			}
		}
		if len(others) > 0 {
			all = append(all, Conflict{reason, fmt.Sprintf("%s: %s has %s, which counts, and %s", what, first.Cluster, say(first), strings.Join(others, ", "))})
		}
	}
	said := func(same func(a, b *mesh.ClusterSet) bool) func(a, b *Offer) bool {
		return func(a, b *Offer) bool {
			return a.Export.ClusterSet == nil || b.Export.ClusterSet == nil || same(a.Export.ClusterSet, b.Export.ClusterSet)
		}
	}
	differ(mcs.ServiceExportReasonPortConflict, "ports", samePorts, (*Offer).portNames)
	if first.Export.ClusterSet == nil {
		return all
	}
	differ(mcs.ServiceExportReasonTypeConflict, "type", said(func(a, b *mesh.ClusterSet) bool { return a.Headless == b.Headless }),
		func(o *Offer) string { return string(typeOf(o.Export.ClusterSet.Headless)) })
	differ(mcs.ServiceExportReasonSessionAffinityConflict, "session affinity",
		said(func(a, b *mesh.ClusterSet) bool { return a.SessionAffinity == b.SessionAffinity }),
		func(o *Offer) string { a, _ := affinity(o.Export.ClusterSet); return string(a) })
	differ(mcs.ServiceExportReasonSessionAffinityConfigConflict, "seconds of session affinity",
		said(func(a, b *mesh.ClusterSet) bool { return a.AffinityTimeout == b.AffinityTimeout }),
		func(o *Offer) string { return fmt.Sprint(o.Export.ClusterSet.AffinityTimeout) })
	differ(mcs.ServiceExportReasonInternalTrafficPolicyConflict, "internal traffic policy",
		said(func(a, b *mesh.ClusterSet) bool { return a.InternalTrafficPolicy == b.InternalTrafficPolicy }),
		func(o *Offer) string { return fmt.Sprintf("%q", o.Export.ClusterSet.InternalTrafficPolicy) })
	differ(mcs.ServiceExportReasonTrafficDistributionConflict, "traffic distribution",
		said(func(a, b *mesh.ClusterSet) bool { return a.TrafficDistribution == b.TrafficDistribution }),
		func(o *Offer) string { return fmt.Sprintf("%q", o.Export.ClusterSet.TrafficDistribution) })
	differ(mcs.ServiceExportReasonLabelsConflict, "labels",
		said(func(a, b *mesh.ClusterSet) bool { return maps.Equal(a.Labels, b.Labels) }),
		func(o *Offer) string { return fmt.Sprintf("%d", len(o.Export.ClusterSet.Labels)) })
	differ(mcs.ServiceExportReasonAnnotationsConflict, "annotations",
		said(func(a, b *mesh.ClusterSet) bool { return maps.Equal(a.Annotations, b.Annotations) }),
		func(o *Offer) string { return fmt.Sprintf("%d", len(o.Export.ClusterSet.Annotations)) })
	return all
}

// samePorts compares all of what two ServiceExports say, and of others only what the mesh carries.
func samePorts(a, b *Offer) bool {
	x, y := a.ports(), b.ports()
	if a.Export.ClusterSet == nil || b.Export.ClusterSet == nil {
		x, y = tcpNumbers(x), tcpNumbers(y)
	}
	if len(x) != len(y) {
		return false
	}
	return !slices.ContainsFunc(x, func(p port) bool { return !slices.Contains(y, p) })
}

// tcpNumbers returns the TCP ports of all, without what names them.
func tcpNumbers(all []port) (bare []port) {
	for _, p := range all {
		if p.protocol == corev1.ProtocolTCP {
			bare = append(bare, port{number: p.number})
		}
	}
	return bare
}

func (o *Offer) portNames() string {
	const shown = 6
	var names []string
	for _, p := range o.ports() {
		if len(names) == shown {
			names = append(names, "…")
			break
		}
		names = append(names, strings.TrimLeft(fmt.Sprintf("%s %d/%s", p.name, p.number, p.protocol), " "))
	}
	return "[" + strings.Join(names, " ") + "]"
}

func typeOf(headless bool) mcs.ServiceImportType {
	if headless {
		return mcs.Headless
	}
	return mcs.ClusterSetIP
}
