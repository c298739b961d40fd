package imports

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// derivedName names the derived Service of an import: the same one in every cluster, and
// for ever.
func derivedName(s mesh.ServiceName) string {
	sum := sha256.Sum256([]byte(s.String()))
	return "derived-" + strings.ToLower(base32.HexEncoding.EncodeToString(sum[:])[:12])
}

// object is i's ServiceImport, which goes when owner does, and which keeps on which ports of
// the entrance its own are called. The addresses are those of its derived Service.
func (i *Import) object(derived *corev1.Service, ports map[uint16]uint16, owner []metav1.OwnerReference) *mcs.ServiceImport {
	notes := maps.Clone(i.notes)
	delete(notes, entranceAnnotation) // of an exporter, which has no say in that
	if len(ports) > 0 {
		notes = withOurs(notes, entranceAnnotation, entranceOf(ports))
	}
	o := &mcs.ServiceImport{ObjectMeta: metav1.ObjectMeta{
		Namespace: i.Service.Namespace, Name: i.Service.Name, Labels: withOurs(i.labels, labelManaged, managedBy), Annotations: notes, OwnerReferences: owner,
	}}
	o.Spec = mcs.ServiceImportSpec{Type: typeOf(i.Headless), Ports: []mcs.ServicePort{}, SessionAffinity: i.affinity}
	if i.timeout > 0 {
		o.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &i.timeout}}
	}
	if i.policy != "" {
		o.Spec.InternalTrafficPolicy = &i.policy
	}
	if i.traffic != "" {
		o.Spec.TrafficDistribution = &i.traffic
	}
	for _, p := range i.ports {
		o.Spec.Ports = append(o.Spec.Ports, mcs.ServicePort{Name: p.name, Protocol: p.protocol, AppProtocol: text(p.appProtocol), Port: int32(p.number)})
	}
	if derived != nil {
		o.Spec.IPFamilies = derived.Spec.IPFamilies
		if !i.Headless {
			o.Spec.IPs = derived.Spec.ClusterIPs
		}
	}
	return o
}

// status is that of i's ServiceImport. It leaves endpointSliceObjects out: newer versions of
// the CRD do not have it, and refuse what names it.
func (i *Import) status(was *mcs.ServiceImport) mcs.ServiceImportStatus {
	var s mcs.ServiceImportStatus
	for _, c := range i.Clusters {
		s.Clusters = append(s.Clusters, mcs.ClusterStatus{Cluster: string(c)})
	}
	ready := mcs.NewServiceImportCondition(mcs.ServiceImportConditionReady, metav1.ConditionTrue, mcs.ServiceImportReasonReady,
		fmt.Sprintf("exported by %d clusters", len(i.Clusters)))
	if !i.Headless && len(was.Spec.IPs) == 0 {
		ready = mcs.NewServiceImportCondition(mcs.ServiceImportConditionReady, metav1.ConditionFalse, mcs.ServiceImportReasonPending,
			"it has no address yet, or none of its ports is one that the mesh carries")
	}
	ready.ObservedGeneration = was.Generation
	s.Conditions = []metav1.Condition{ready}
	return s
}

// derived is i's derived Service; nil: the mesh carries none of its ports. Without an
// entrance it has an address at which nobody answers.
func (i *Import) derived(ports map[uint16]uint16, owner *mcs.ServiceImport) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: i.Service.Namespace, Name: derivedName(i.Service),
		Labels:          map[string]string{labelManaged: managedBy, kube.ImportLabel: i.Service.Name},
		OwnerReferences: owned(owner),
	}}
	prefer := corev1.IPFamilyPolicyPreferDualStack
	s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, IPFamilyPolicy: &prefer}
	for _, p := range i.carriedPorts() {
		at := ports[p.number]
		if at == 0 {
			at = p.number
		}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: p.sliceName(), Protocol: corev1.ProtocolTCP,
			Port: int32(p.number), TargetPort: intstr.FromInt32(int32(at)), AppProtocol: text(p.appProtocol)})
	}
	if len(s.Spec.Ports) == 0 {
		return nil
	}
	return s
}

// sliceName is the port's name where several ports must differ.
func (p *port) sliceName() string {
	if p.name != "" {
		return p.name
	}
	return fmt.Sprintf("tcp-%d", p.number)
}

// Gateway is one gateway of this cluster, as the API server knows it.
type Gateway struct {
	Address  string
	Family   discoveryv1.AddressType
	Ready    bool
	Node     string
	Instance *corev1.ObjectReference // its pod; nil: it is in none
}

// gatewaysOf returns those of the EndpointSlices of the gateways' Service, sorted. Its
// readiness counts, also where the Service publishes who is not ready.
func gatewaysOf(all []*discoveryv1.EndpointSlice) (gateways []Gateway) {
	for _, s := range all {
		if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
			continue
		}
		for _, e := range s.Endpoints {
			g := Gateway{Family: s.AddressType, Ready: holds(e.Conditions.Serving, holds(e.Conditions.Ready, true)) && !holds(e.Conditions.Terminating, false)}
			if len(e.Addresses) == 0 {
				continue
			}
			g.Address, g.Instance = e.Addresses[0], e.TargetRef
			if e.NodeName != nil {
				g.Node = *e.NodeName
			}
			gateways = append(gateways, g)
		}
	}
	slices.SortFunc(gateways, func(a, b Gateway) int { return strings.Compare(a.Address, b.Address) })
	return slices.CompactFunc(gateways, func(a, b Gateway) bool { return a.Address == b.Address })
}

// slices are i's EndpointSlices: for kube-proxy, behind derived, the gateways on the ports
// of the entrance; and for readers of the Multi-Cluster Services API one for each cluster
// that exports. Both are the same ones, but for a headless import.
func (i *Import) slices(derived *corev1.Service, ports map[uint16]uint16, gateways []Gateway, owner *mcs.ServiceImport) []*discoveryv1.EndpointSlice {
	if derived == nil {
		return nil
	}
	var all []*discoveryv1.EndpointSlice
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		endpoints := endpointsOf(gateways, family)
		if i.Headless {
			if len(endpoints) > 0 {
				s := i.slice(family, "", owner, endpoints, func(p port) uint16 { return ports[p.number] })
				s.Labels[discoveryv1.LabelServiceName] = derived.Name
				all = append(all, s)
			}
			if endpoints = addressesOf(derived, family); len(endpoints) == 0 {
				continue
			}
		}
		for _, cluster := range i.Clusters {
			if len(endpoints) == 0 {
				continue
			}
			s := i.slice(family, cluster, owner, endpoints, func(p port) uint16 {
				switch {
				case !slices.Contains(i.carried[p.number], cluster):
					return 0
				case i.Headless:
					return p.number
				}
				return ports[p.number]
			})
			if !i.Headless {
				s.Labels[discoveryv1.LabelServiceName] = derived.Name
			}
			s.Labels[mcs.LabelServiceName], s.Labels[mcs.LabelSourceCluster] = i.Service.Name, string(cluster)
			all = append(all, s)
		}
	}
	return slices.DeleteFunc(all, func(s *discoveryv1.EndpointSlice) bool { return len(s.Ports) == 0 })
}

// slice is one of them, with the ports for which at is not 0.
func (i *Import) slice(family discoveryv1.AddressType, cluster mesh.ClusterName, owner *mcs.ServiceImport, endpoints []discoveryv1.Endpoint, at func(port) uint16) *discoveryv1.EndpointSlice {
	name := derivedName(i.Service) + "-" + strings.ToLower(string(family))
	if cluster != "" {
		name += "-" + string(cluster)
	}
	s := &discoveryv1.EndpointSlice{AddressType: family, Endpoints: endpoints, ObjectMeta: metav1.ObjectMeta{
		Namespace: i.Service.Namespace, Name: name, OwnerReferences: owned(owner),
		Labels: map[string]string{labelManaged: managedBy, kube.ImportLabel: i.Service.Name, discoveryv1.LabelManagedBy: sliceManager},
	}}
	for _, p := range i.carriedPorts() {
		if n := at(p); n != 0 {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: text(p.sliceName()), Protocol: new(corev1.ProtocolTCP), Port: new(int32(n)), AppProtocol: text(p.appProtocol)})
		}
	}
	return s
}

func endpointsOf(gateways []Gateway, family discoveryv1.AddressType) (all []discoveryv1.Endpoint) {
	for _, g := range gateways {
		if g.Family != family {
			continue
		}
		all = append(all, discoveryv1.Endpoint{Addresses: []string{g.Address}, NodeName: text(g.Node), TargetRef: g.Instance,
			Conditions: discoveryv1.EndpointConditions{Ready: new(g.Ready), Serving: new(g.Ready), Terminating: new(false)}})
	}
	return all
}

// addressesOf are the derived Service's own.
func addressesOf(derived *corev1.Service, family discoveryv1.AddressType) (all []discoveryv1.Endpoint) {
	for n, f := range derived.Spec.IPFamilies {
		if string(f) == string(family) && n < len(derived.Spec.ClusterIPs) && derived.Spec.ClusterIPs[n] != corev1.ClusterIPNone {
			all = append(all, discoveryv1.Endpoint{Addresses: []string{derived.Spec.ClusterIPs[n]}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
		}
	}
	return all
}

// owned has an object go with its ServiceImport.
func owned(owner *mcs.ServiceImport) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: mcs.GroupVersion.String(), Kind: mcs.ServiceImportKindName, Name: owner.Name, UID: owner.UID}}
}

func withOurs(labels map[string]string, key, value string) map[string]string {
	all := maps.Clone(labels)
	if all == nil {
		all = map[string]string{}
	}
	all[key] = value
	return all
}

// text returns a pointer to s; nil for nothing.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func holds(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}
