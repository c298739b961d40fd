package kubernetes

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// objects are what the API server says of services, each kind sorted by namespace and
// name, as [kube.Followed] gives them.
type objects struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	pods     []*corev1.Pod
	exports  []*mcsv1beta1.ServiceExport
	// wereReady are the pods that have been ready, now or before; see [readyPods].
	wereReady map[podKey]bool
}

// sayWhat reports whether o is what was is, but for the conditions of ServiceExports: thousands
// of these are written when a gateway begins.
func (o *objects) sayWhat(was *objects) bool {
	return sameSnapshot(o.services, was.services) && sameSnapshot(o.slices, was.slices) && sameSnapshot(o.pods, was.pods) &&
		slices.EqualFunc(o.exports, was.exports, func(a, b *mcsv1beta1.ServiceExport) bool {
			return a == b || a.Namespace == b.Namespace && a.Name == b.Name && a.UID == b.UID && a.Generation == b.Generation && a.DeletionTimestamp.IsZero() == b.DeletionTimestamp.IsZero()
		})
}

// sameSnapshot reports whether a and b are one snapshot, which never changes.
func sameSnapshot[T any](a, b []T) bool {
	return b != nil && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// readyPods returns the pods of the slices that are ready, and those of before that are still there.
func readyPods(before map[podKey]bool, eps []*discoveryv1.EndpointSlice) map[podKey]bool {
	ready := make(map[podKey]bool, len(before))
	for _, s := range eps {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.TargetRef == nil {
				continue
			}
			if pod := (podKey{s.Namespace, e.TargetRef.Name}); before[pod] || isReady(e) {
				ready[pod] = true
			}
		}
	}
	return ready
}

func isReady(e *discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// found is what the objects say. It never changes once it is published.
type found struct {
	services []discovery.Service // sorted by name
	pods     Pods
}

// Pods are the pods with a sidecar, by each of their addresses.
type Pods map[netip.Addr]*Pod

// Pod is a pod with a sidecar.
type Pod struct {
	Namespace, Name, Account string
	Identity                 string // the SPIFFE ID of its sidecar
	// Serves are the ports of services whose endpoints say that the pod serves them, ready
	// or not. Sorted by service and port.
	Serves []ServedPort
}

// ServedPort is a port of a service that a pod serves.
type ServedPort struct {
	Service  mesh.ServiceName
	Port     uint16 // as callers name it
	Target   uint16 // of the program in the pod
	Protocol mesh.Protocol
}

// home is where the API server's cluster is in the mesh.
type home struct {
	trustDomain string
	cluster     mesh.ClusterName
}

// podKey names a pod.
type podKey struct{ namespace, name string }

// knownPod is a pod as endpoints are made of it.
type knownPod struct {
	*corev1.Pod
	meshed *Pod // nil: it has no sidecar
}

// translation makes what is found of objects.
type translation struct {
	home   home
	ready  map[podKey]bool // pods that have been ready
	slices map[mesh.ServiceName][]*discoveryv1.EndpointSlice
	pods   map[podKey]knownPod
	ids    map[podKey]string // SPIFFE IDs by namespace and account: few, shared by many endpoints
	meshed []Pod             // room for those with a sidecar, in one piece
	found  found
}

// translate says what the objects mean. Only this reads them; it has no clock and no I/O.
func translate(o objects, home home) found {
	t := translation{home: home, ready: o.wereReady,
		slices: make(map[mesh.ServiceName][]*discoveryv1.EndpointSlice, len(o.services)),
		pods:   make(map[podKey]knownPod, len(o.pods)),
		ids:    map[podKey]string{},
		meshed: make([]Pod, 0, len(o.pods)),
		found:  found{services: make([]discovery.Service, 0, len(o.services)), pods: make(Pods, len(o.pods))},
	}
	for _, s := range o.slices {
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" && s.AddressType != discoveryv1.AddressTypeFQDN {
			of := mesh.ServiceName{Namespace: s.Namespace, Name: name}
			t.slices[of] = append(t.slices[of], s)
		}
	}
	for _, p := range o.pods {
		t.pod(p)
	}
	exports := make(map[mesh.ServiceName]*mcsv1beta1.ServiceExport, len(o.exports))
	for _, x := range o.exports {
		if x.DeletionTimestamp.IsZero() {
			exports[mesh.ServiceName{Namespace: x.Namespace, Name: x.Name}] = x
		}
	}
	for _, s := range o.services {
		if invalid(s) == "" {
			t.service(s, exports[mesh.ServiceName{Namespace: s.Namespace, Name: s.Name}])
		}
	}
	slices.SortFunc(t.found.services, func(a, b discovery.Service) int { return a.Name.Compare(b.Name) })
	for _, p := range t.found.pods {
		slices.SortFunc(p.Serves, compareServed)
		p.Serves = slices.Compact(p.Serves) // of two families, or a pod of two addresses
	}
	return t.found
}

func compareServed(a, b ServedPort) int {
	return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Target, b.Target))
}

// invalid says why a Service is none of the mesh's; empty: it is one.
func invalid(s *corev1.Service) string {
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return "it is an ExternalName, which has no endpoints: a Service of isthmus.io can name addresses"
	case s.Labels[kube.ImportLabel] != "":
		return "it stands for a service of other clusters"
	case mesh.CheckLabel(s.Name) != nil || mesh.CheckLabel(s.Namespace) != nil:
		return "its name is no DNS label"
	}
	return ""
}

// pod takes note of a pod.
func (t *translation) pod(p *corev1.Pod) {
	known := knownPod{Pod: p}
	if p.Labels[kube.SidecarLabel] == "true" {
		t.meshed = append(t.meshed, Pod{Namespace: p.Namespace, Name: p.Name, Account: account(p), Identity: t.identityOf(p)})
		known.meshed = &t.meshed[len(t.meshed)-1]
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed { // whose address may be another's by now
			for _, ip := range p.Status.PodIPs {
				if addr, err := netip.ParseAddr(ip.IP); err == nil {
					t.found.pods[addr] = known.meshed
				}
			}
		}
	}
	t.pods[podKey{p.Namespace, p.Name}] = known
}

func account(p *corev1.Pod) string { return cmp.Or(p.Spec.ServiceAccountName, "default") }

// identityOf returns the SPIFFE ID of a pod's sidecar.
func (t *translation) identityOf(p *corev1.Pod) string {
	key := podKey{p.Namespace, account(p)}
	id, ok := t.ids[key]
	if !ok {
		id = identity.ID{TrustDomain: t.home.trustDomain, Cluster: t.home.cluster, Namespace: p.Namespace, ServiceAccount: account(p)}.String()
		t.ids[key] = id
	}
	return id
}

// service adds a Service.
func (t *translation) service(s *corev1.Service, export *mcsv1beta1.ServiceExport) {
	out := discovery.Service{Name: mesh.ServiceName{Namespace: s.Namespace, Name: s.Name}, Declared: true}
	if export != nil {
		out.Export = new(true)
		out.ClusterSet = clusterSetOf(s, export)
	}
	out.Headless = s.Spec.ClusterIP == corev1.ClusterIPNone
	for _, ip := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			out.Addresses = append(out.Addresses, a)
		}
	}
	eps := slices.Clone(t.slices[out.Name])
	first := firstFamily(s)
	slices.SortStableFunc(eps, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Compare(rank(a, first), rank(b, first))
	})
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			out.Ports = append(out.Ports, t.port(out.Name, p, eps))
		} else {
			out.OtherPorts = true
		}
	}
	t.found.services = append(t.found.services, out)
}

// firstFamily is the address family of a Service that counts where a pod has both.
func firstFamily(s *corev1.Service) discoveryv1.AddressType {
	if len(s.Spec.IPFamilies) > 0 && s.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func rank(s *discoveryv1.EndpointSlice, first discoveryv1.AddressType) int {
	if s.AddressType == first {
		return 0
	}
	return 1
}

// port makes a port of a service with the endpoints that its slices have for it: those of
// the slices' ports of its name.
func (t *translation) port(service mesh.ServiceName, p *corev1.ServicePort, eps []*discoveryv1.EndpointSlice) mesh.ServicePort {
	out := mesh.ServicePort{Port: uint16(p.Port)}
	app := deref(p.AppProtocol)
	for _, s := range eps {
		for i := range s.Ports {
			if q := &s.Ports[i]; app == "" && deref(q.Name) == p.Name {
				app = deref(q.AppProtocol)
			}
		}
	}
	out.Protocol = protocolOf(app, p.Name)
	var spare []mesh.Endpoint
	at := map[string]int{} // of instances in out.Endpoints
	for _, s := range eps {
		for i := range s.Ports {
			q := &s.Ports[i]
			if deref(q.Name) != p.Name || q.Port == nil || *q.Port < 1 || *q.Port > 65535 || (q.Protocol != nil && *q.Protocol != corev1.ProtocolTCP) {
				continue
			}
			served := ServedPort{Service: service, Port: out.Port, Target: uint16(*q.Port), Protocol: out.Protocol}
			for j := range s.Endpoints {
				e, lost, ok := t.endpoint(s.Namespace, &s.Endpoints[j], served)
				if !ok {
					continue
				}
				if n, again := at[e.Instance]; again {
					// It moves from one slice to another, or has two families: the first
					// counts, unless only the other is ready.
					if e.Ready && !out.Endpoints[n].Ready {
						out.Endpoints[n] = e
					}
					continue
				}
				if !e.Ready && !lost {
					spare = append(spare, e)
					continue
				}
				at[e.Instance] = len(out.Endpoints)
				out.Endpoints = append(out.Endpoints, e)
			}
		}
	}
	if len(out.Endpoints) == 0 {
		for _, e := range spare {
			if _, again := at[e.Instance]; !again {
				at[e.Instance] = len(out.Endpoints)
				out.Endpoints = append(out.Endpoints, e)
			}
		}
	}
	slices.SortFunc(out.Endpoints, func(a, b mesh.Endpoint) int { return cmp.Compare(a.Instance, b.Instance) })
	return out
}

// endpoint makes an endpoint of a slice's. When it is not ready, lost says whether that is capacity
// which the service is to have: a pod that ends, or that starts and was never ready, is none, or each
// scaling up would send callers to other clusters. It is no endpoint while its
// pod is not known: without it nobody knows who answers. A pod of another namespace is
// none either: who may write slices in one shall not have pods of another serve it. A pod that starts serves from the
// beginning, so that its sidecar knows that before the first caller does.
func (t *translation) endpoint(namespace string, e *discoveryv1.Endpoint, served ServedPort) (out mesh.Endpoint, lost, ok bool) {
	if len(e.Addresses) == 0 {
		return out, false, false
	}
	addr := e.Addresses[0] // the API says that only the first counts
	ends := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	out = mesh.Endpoint{Weight: 1, Ready: isReady(e) && !ends}
	lost = !ends && !out.Ready
	target := strconv.Itoa(int(served.Target))
	if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
		pod, known := t.pods[podKey{namespace, ref.Name}]
		if !known || ref.UID != "" && ref.UID != pod.UID || cmp.Or(ref.Namespace, namespace) != namespace {
			return out, false, false
		}
		out.Instance = ref.Name
		lost = lost && t.ready[podKey{namespace, ref.Name}]
		if pod.meshed != nil {
			out.Identity, target, out.Target = pod.meshed.Identity, strconv.Itoa(sidecarPort), served.Target
			pod.meshed.Serves = append(pod.meshed.Serves, served) // while it ends, too: it serves who is connected
		}
	} else {
		out.Instance = strings.Trim(strings.ReplaceAll(addr, ":", "-"), "-") + "-" + target
	}
	out.Address = net.JoinHostPort(addr, target)
	return out, lost, true
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
