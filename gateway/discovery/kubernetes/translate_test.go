package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var east = home{"mesh.example", "east"}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)}
}

// service makes a Service of ports written as "name:port/appProtocol".
func service(name string, ports ...string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: named("shop", name), Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.7", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}}
	for _, p := range ports {
		rest, app, _ := strings.Cut(p, "/")
		portName, number, _ := strings.Cut(rest, ":")
		port := corev1.ServicePort{Name: portName, Protocol: corev1.ProtocolTCP}
		if _, err := fmt.Sscan(number, &port.Port); err != nil {
			panic(err)
		}
		if app != "" {
			port.AppProtocol = &app
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	return s
}

// slice makes an EndpointSlice of a service; ports are written as "name:port".
func slice(service, name string, family discoveryv1.AddressType, ports []string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: named("shop", name), AddressType: family, Endpoints: endpoints}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	for _, p := range ports {
		portName, number, _ := strings.Cut(p, ":")
		var port int32
		if _, err := fmt.Sscan(number, &port); err != nil {
			panic(err)
		}
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &portName, Port: &port})
	}
	return s
}

func at(addr string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}
}

func ofPod(name, addr string) discoveryv1.Endpoint {
	e := at(addr)
	e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: name, UID: types.UID("uid-" + name)}
	return e
}

func unready(e discoveryv1.Endpoint) discoveryv1.Endpoint {
	e.Conditions.Ready = new(false)
	return e
}

func ends(e discoveryv1.Endpoint) discoveryv1.Endpoint {
	e = unready(e)
	e.Conditions.Serving, e.Conditions.Terminating = new(true), new(true)
	return e
}

func pod(name, account string, addrs ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: named("shop", name), Spec: corev1.PodSpec{ServiceAccountName: account}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	return p
}

func meshed(p *corev1.Pod) *corev1.Pod {
	p.Labels = map[string]string{kube.SidecarLabel: "true"}
	return p
}

const (
	v4 = discoveryv1.AddressTypeIPv4
	v6 = discoveryv1.AddressTypeIPv6
)

func TestEndpointsAreTranslated(t *testing.T) {
	const id = "spiffe://mesh.example/cluster/east/ns/shop/sa/orders"
	port80 := []string{"http:80"}
	for name, test := range map[string]struct {
		objects objects
		want    []string // service:port protocol, then its endpoints as instance@address, with ! when not ready and * with an identity
	}{
		"a pod with a sidecar is at the sidecar's port, another at its own": {
			objects{services: []*corev1.Service{service("orders", "http:80")},
				slices: []*discoveryv1.EndpointSlice{slice("orders", "a", v4, []string{"http:8080"}, ofPod("b", "10.0.0.2"), ofPod("a", "10.0.0.1"))},
				pods:   []*corev1.Pod{meshed(pod("a", "orders", "10.0.0.1")), pod("b", "orders", "10.0.0.2")}},
			[]string{"orders:80 http a@10.0.0.1:15008* b@10.0.0.2:8080"},
		},
		"slices have their own target ports, matched by the port's name": {
			objects{services: []*corev1.Service{service("orders", "web:80", "admin:81")},
				slices: []*discoveryv1.EndpointSlice{
					slice("orders", "a", v4, []string{"web:8080", "admin:9090"}, ofPod("a", "10.0.0.1")),
					slice("orders", "b", v4, []string{"web:8081"}, ofPod("b", "10.0.0.2"))},
				pods: []*corev1.Pod{pod("a", "", "10.0.0.1"), pod("b", "", "10.0.0.2")}},
			[]string{"orders:80 auto a@10.0.0.1:8080 b@10.0.0.2:8081", "orders:81 auto a@10.0.0.1:9090"},
		},
		"who is ready no more is there, who ends, or starts, only when nobody else is": {
			objects{services: []*corev1.Service{service("orders", "http:80"), service("pay", "http:80")},
				slices: []*discoveryv1.EndpointSlice{
					slice("orders", "a", v4, port80, ofPod("a", "10.0.0.1"), unready(ofPod("b", "10.0.0.2")), ends(ofPod("c", "10.0.0.3")), unready(ofPod("d", "10.0.0.4"))),
					slice("pay", "b", v4, port80, ends(ofPod("c", "10.0.0.3")))},
				pods:      []*corev1.Pod{pod("a", "", "10.0.0.1"), pod("b", "", "10.0.0.2"), pod("c", "", "10.0.0.3"), pending(pod("d", "", "10.0.0.4"))},
				wereReady: map[podKey]bool{{"shop", "b"}: true}},
			[]string{"orders:80 http a@10.0.0.1:80 b@10.0.0.2:80!", "pay:80 http c@10.0.0.3:80!"},
		},
		"an endpoint of a pod that is not known, or another one by now, is none": {
			objects{services: []*corev1.Service{service("orders", "http:80")},
				slices: []*discoveryv1.EndpointSlice{slice("orders", "a", v4, port80, ofPod("a", "10.0.0.1"), ofPod("b", "10.0.0.2"))},
				pods:   []*corev1.Pod{func() *corev1.Pod { p := pod("b", "", "10.0.0.2"); p.UID = "later"; return p }()}},
			[]string{"orders:80 http"},
		},
		"a pod of another namespace is no endpoint": {
			objects{services: []*corev1.Service{service("orders", "http:80")},
				slices: []*discoveryv1.EndpointSlice{slice("orders", "a", v4, port80, func() discoveryv1.Endpoint { e := ofPod("a", "10.0.0.1"); e.TargetRef.Namespace = "zoo"; return e }())},
				pods:   []*corev1.Pod{pod("a", "", "10.0.0.1"), func() *corev1.Pod { p := meshed(pod("a", "", "10.0.0.1")); p.Namespace = "zoo"; return p }()}},
			[]string{"orders:80 http"},
		},
		"of a pod with two families the service's first counts": {
			objects{services: []*corev1.Service{service("four", "http:80"), v6first(service("six", "http:80"))},
				slices: []*discoveryv1.EndpointSlice{
					slice("four", "a", v6, port80, ofPod("a", "fd00::1"), ofPod("b", "fd00::2")), slice("four", "b", v4, port80, ofPod("a", "10.0.0.1")),
					slice("six", "c", v4, port80, ofPod("a", "10.0.0.1")), slice("six", "d", v6, port80, ofPod("a", "fd00::1"))},
				pods: []*corev1.Pod{meshed(pod("a", "orders", "10.0.0.1", "fd00::1")), pod("b", "", "fd00::2")}},
			[]string{"four:80 http a@10.0.0.1:15008* b@[fd00::2]:80", "six:80 http a@[fd00::1]:15008*"},
		},
		"an endpoint that moves between slices is one, ready if either says so": {
			objects{services: []*corev1.Service{service("orders", "http:80")},
				slices: []*discoveryv1.EndpointSlice{slice("orders", "a", v4, port80, unready(ofPod("a", "10.0.0.1"))), slice("orders", "b", v4, port80, ofPod("a", "10.0.0.1"))},
				pods:   []*corev1.Pod{pod("a", "", "10.0.0.1")}},
			[]string{"orders:80 http a@10.0.0.1:80"},
		},
		"slices that somebody wrote by hand are plain endpoints, named by their addresses": {
			objects{services: []*corev1.Service{service("db", "tcp-sql:5432")},
				slices: []*discoveryv1.EndpointSlice{slice("db", "a", v4, []string{"tcp-sql:5432"}, at("192.168.1.7")), slice("db", "b", v6, []string{"tcp-sql:5433"}, at("fd00::7")),
					slice("db", "c", discoveryv1.AddressTypeFQDN, []string{"tcp-sql:5432"}, at("db.example"))}},
			[]string{"db:5432 tcp 192.168.1.7-5432@192.168.1.7:5432 fd00--7-5433@[fd00::7]:5433"},
		},
		"a headless service is one like others": {
			objects{services: []*corev1.Service{headless(service("orders", "http:80"))},
				slices: []*discoveryv1.EndpointSlice{slice("orders", "a", v4, port80, ofPod("orders-0", "10.0.0.1"))}, pods: []*corev1.Pod{pod("orders-0", "", "10.0.0.1")}},
			[]string{"orders:80 http orders-0@10.0.0.1:80"},
		},
		"UDP, ExternalNames and what stands for other clusters is left out": {
			objects{services: []*corev1.Service{udp(service("dns", "dns:53", "dns-tcp:53")), external(service("far", "http:80")), derived(service("derived", "http:80"))},
				slices: []*discoveryv1.EndpointSlice{slice("derived", "a", v4, port80, at("10.9.9.9"))}},
			[]string{"dns:53 auto"},
		},
		"who has no endpoints has ports": {objects{services: []*corev1.Service{service("orders", "grpc:80")}}, []string{"orders:80 grpc"}},
		"a slice's port of another protocol or without a number does not count": {
			objects{services: []*corev1.Service{service("orders", "http:80")},
				slices: []*discoveryv1.EndpointSlice{func() *discoveryv1.EndpointSlice {
					s := slice("orders", "a", v4, []string{"http:80", "http:81"}, at("10.0.0.1"))
					s.Ports[0].Protocol, s.Ports[1].Port = new(corev1.ProtocolUDP), nil
					return s
				}()}},
			[]string{"orders:80 http"},
		},
		"a slice says what the port speaks when the Service does not": {
			objects{services: []*corev1.Service{service("orders", "x:80")},
				slices: []*discoveryv1.EndpointSlice{func() *discoveryv1.EndpointSlice {
					s := slice("orders", "a", v4, []string{"x:80"}, at("10.0.0.1"))
					s.Ports[0].AppProtocol = new("kubernetes.io/h2c")
					return s
				}()}},
			[]string{"orders:80 http2 10.0.0.1-80@10.0.0.1:80"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range translate(test.objects, east).services {
				if !s.Declared || s.Export != nil {
					t.Errorf("%s: declared %v, export %v", s.Name, s.Declared, s.Export)
				}
				for _, p := range s.Ports {
					line := fmt.Sprintf("%s:%d %s", s.Name.Name, p.Port, p.Protocol)
					for _, e := range p.Endpoints {
						line += " " + e.Instance + "@" + e.Address
						if !e.Ready {
							line += "!"
						}
						if e.Identity == id {
							line += "*"
						} else if e.Identity != "" {
							t.Errorf("%s is %s", e.Instance, e.Identity)
						}
						if e.Weight != 1 {
							t.Errorf("%s has weight %d", e.Instance, e.Weight)
						}
					}
					got = append(got, line)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func pending(p *corev1.Pod) *corev1.Pod { p.Status.Phase = corev1.PodPending; return p }
func v6first(s *corev1.Service) *corev1.Service {
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	return s
}
func headless(s *corev1.Service) *corev1.Service { s.Spec.ClusterIP = corev1.ClusterIPNone; return s }
func udp(s *corev1.Service) *corev1.Service {
	s.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	return s
}
func external(s *corev1.Service) *corev1.Service {
	s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "far.example"
	return s
}
func derived(s *corev1.Service) *corev1.Service {
	s.Labels = map[string]string{kube.ImportLabel: "orders"}
	return s
}

func TestWhatAPortSpeaksIsItsAppProtocolOrElseItsName(t *testing.T) {
	for in, want := range map[string]mesh.Protocol{
		"http": mesh.HTTP, "http-web": mesh.HTTP, "http2-x": mesh.HTTP2, "h2c": mesh.HTTP2, "grpc": mesh.GRPC, "grpc-web": mesh.HTTP, "grpc-web-x": mesh.HTTP, "grpc-api": mesh.GRPC,
		"tcp-sql": mesh.TCP, "https": mesh.TCP, "tls-x": mesh.TCP, "": mesh.Auto, "web": mesh.Auto, "httpx": mesh.Auto,
		"tcp/http": mesh.HTTP, "/kubernetes.io/ws": mesh.HTTP, "http/kubernetes.io/wss": mesh.TCP, "http/kubernetes.io/h2c": mesh.HTTP2, "/grpc": mesh.GRPC, "http/https": mesh.TCP,
		"http/redis": mesh.TCP, "/example.com/mine": mesh.Auto, "http/example.com/mine": mesh.HTTP, "/grpc-web": mesh.HTTP, "/http2": mesh.HTTP2,
	} {
		name, app, _ := strings.Cut(in, "/")
		if got := protocolOf(app, name); got != want {
			t.Errorf("name %q, appProtocol %q: %s, want %s", name, app, got, want)
		}
	}
}

func TestAServiceExportTellsOtherClustersAllOfTheService(t *testing.T) {
	s := udp(service("orders", "dns:53", "http:80/http"))
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(60))}}
	s.Spec.InternalTrafficPolicy, s.Spec.TrafficDistribution = new(corev1.ServiceInternalTrafficPolicyLocal), new("PreferClose")
	since := time.Unix(1700000000, 0)
	x := &mcsv1beta1.ServiceExport{ObjectMeta: named("shop", "orders"), Spec: mcsv1beta1.ServiceExportSpec{ExportedLabels: map[string]string{"a": "b"}, ExportedAnnotations: map[string]string{"c": "d"}}}
	x.CreationTimestamp = metav1.NewTime(since)
	far := &mcsv1beta1.ServiceExport{ObjectMeta: named("shop", "far")}
	got := translate(objects{services: []*corev1.Service{external(service("far", "http:80")), s}, exports: []*mcsv1beta1.ServiceExport{far, x}}, east).services
	want := []discovery.Service{{
		Name: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Declared: true, OtherPorts: true, Export: new(true),
		Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP}},
		ClusterSet: &mesh.ClusterSet{Since: since.UTC(), Ports: []mesh.ClusterSetPort{{Name: "dns", Protocol: "UDP", Port: 53}, {Name: "http", Protocol: "TCP", Port: 80, AppProtocol: "http"}},
			SessionAffinity: "ClientIP", AffinityTimeout: 60, InternalTrafficPolicy: "Local", TrafficDistribution: "PreferClose",
			Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	x.DeletionTimestamp = new(metav1.NewTime(since))
	if got := translate(objects{services: []*corev1.Service{s}, exports: []*mcsv1beta1.ServiceExport{x}}, east).services[0]; got.Export != nil {
		t.Error("it is exported while its ServiceExport is deleted")
	}
}

func TestAServiceSaysWhatProgramsDialWithoutItsName(t *testing.T) {
	both := service("web", "http:80")
	both.Spec.ClusterIPs = []string{"10.43.0.7", "fd43::7"}
	none := headless(service("db", "sql:5432"))
	none.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
	trimService(both)
	trimService(none)
	got := translate(objects{
		services: []*corev1.Service{none, both},
		slices:   []*discoveryv1.EndpointSlice{slice("db", "db", v4, []string{"sql:5433"}, ofPod("db-0", "10.42.0.7"), ofPod("db-1", "10.42.0.8"))},
		pods:     []*corev1.Pod{meshed(pod("db-0", "db", "10.42.0.7")), pod("db-1", "db", "10.42.0.8")},
	}, east).services
	db, web := got[0], got[1]
	if !db.Headless || db.Addresses != nil || web.Headless || fmt.Sprint(web.Addresses) != "[10.43.0.7 fd43::7]" {
		t.Errorf("%+v and %+v", db, web)
	}
	if e := db.Ports[0].Endpoints; e[0].Target != 5433 || e[1].Target != 0 { // who has no sidecar is dialled as ever
		t.Errorf("%+v", e)
	}
}

func TestWhatAPodWithASidecarServesIsKnownByEachOfItsAddresses(t *testing.T) {
	f := translate(objects{
		services: []*corev1.Service{service("orders", "http:80", "x:81"), service("pay", "http:80")},
		slices: []*discoveryv1.EndpointSlice{
			slice("orders", "a", v4, []string{"http:8080", "x:9090"}, unready(ofPod("a", "10.0.0.1")), ofPod("b", "10.0.0.2")),
			slice("orders", "b", v6, []string{"http:8080", "x:9090"}, ofPod("a", "fd00::1")),
			slice("pay", "c", v4, []string{"http:8080"}, ofPod("a", "10.0.0.1"), ends(ofPod("c", "10.0.0.3")))},
		pods: []*corev1.Pod{meshed(pod("a", "", "10.0.0.1", "fd00::1")), pod("b", "orders", "10.0.0.2"), meshed(pod("c", "pay", "10.0.0.3")), ended(meshed(pod("d", "pay", "10.0.0.1")))},
	}, east)
	orders, pay := mesh.ServiceName{Namespace: "shop", Name: "orders"}, mesh.ServiceName{Namespace: "shop", Name: "pay"}
	a := &Pod{Namespace: "shop", Name: "a", Account: "default", Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/default",
		Serves: []ServedPort{{orders, 80, 8080, mesh.HTTP}, {orders, 81, 9090, mesh.Auto}, {pay, 80, 8080, mesh.HTTP}}}
	c := &Pod{Namespace: "shop", Name: "c", Account: "pay", Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/pay",
		Serves: []ServedPort{{pay, 80, 8080, mesh.HTTP}}} // it ends, and serves who is connected until then
	want := Pods{netip.MustParseAddr("10.0.0.1"): a, netip.MustParseAddr("fd00::1"): a, netip.MustParseAddr("10.0.0.3"): c}
	if diff := cmp.Diff(want, f.pods, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func ended(p *corev1.Pod) *corev1.Pod { p.Status.Phase = corev1.PodSucceeded; return p }

func TestAServiceExportSaysWhetherItsServiceCanBeExported(t *testing.T) {
	x := &mcsv1beta1.ServiceExport{ObjectMeta: named("shop", "orders")}
	x.Generation = 3
	for name, test := range map[string]struct {
		service *corev1.Service
		want    []string
	}{
		"no Service":    {nil, []string{"Valid=False NoService", "Ready=False Pending"}},
		"ExternalName":  {external(service("orders")), []string{"Valid=False InvalidServiceType", "Ready=False Failed"}},
		"an import":     {derived(service("orders", "http:80")), []string{"Valid=False InvalidServiceType", "Ready=False Failed"}},
		"a Service":     {service("orders", "http:80"), []string{"Valid=True Valid", "Ready=True Exported"}},
		"only UDP":      {udp(service("orders", "dns:53")), []string{"Valid=True Valid", "Ready=True Exported"}},
		"headless":      {headless(service("orders", "http:80")), []string{"Valid=True Valid", "Ready=True Exported"}},
		"without ports": {headless(service("orders")), []string{"Valid=True Valid", "Ready=True Exported"}},
	} {
		var got []string
		for _, c := range exportConditions(x, test.service) {
			got = append(got, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
			if c.ObservedGeneration != 3 || c.Message == "" {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestAPodThatWasReadyIsRememberedUntilItIsGone(t *testing.T) {
	at := func(eps ...discoveryv1.Endpoint) []*discoveryv1.EndpointSlice {
		return []*discoveryv1.EndpointSlice{slice("orders", "a", v4, []string{"http:80"}, eps...)}
	}
	ready := readyPods(nil, at(ofPod("a", "10.0.0.1"), unready(ofPod("b", "10.0.0.2")), discoveryv1.Endpoint{Addresses: []string{"192.168.1.7"}}))
	ready = readyPods(ready, at(unready(ofPod("a", "10.0.0.1")), unready(ofPod("b", "10.0.0.2"))))
	if diff := cmp.Diff(map[podKey]bool{{"shop", "a"}: true}, ready); diff != "" {
		t.Error(diff)
	}
	if ready = readyPods(ready, at(unready(ofPod("b", "10.0.0.2")))); len(ready) > 0 {
		t.Errorf("%v is remembered", ready)
	}
}

func TestTheConditionsOfServiceExportsAreNothingNew(t *testing.T) {
	x := &mcsv1beta1.ServiceExport{ObjectMeta: named("shop", "orders")}
	was := objects{services: []*corev1.Service{service("orders", "http:80")}, slices: []*discoveryv1.EndpointSlice{}, pods: []*corev1.Pod{}, exports: []*mcsv1beta1.ServiceExport{x}}
	now := was
	told := x.DeepCopy()
	told.Status.Conditions = exportConditions(x, was.services[0])
	now.exports = []*mcsv1beta1.ServiceExport{told}
	if !now.sayWhat(&was) {
		t.Error("conditions are something new")
	}
	spec := told.DeepCopy()
	spec.Generation++
	ending := told.DeepCopy()
	ending.DeletionTimestamp = new(metav1.Now())
	another := told.DeepCopy()
	another.UID = "another one of its name"
	for what, exports := range map[string][]*mcsv1beta1.ServiceExport{"none": {}, "another spec": {spec}, "one that ends": {ending}, "another one": {another}} {
		now.exports = exports
		if now.sayWhat(&was) {
			t.Errorf("%s is nothing new", what)
		}
	}
	now = was
	now.services = []*corev1.Service{service("orders", "http:81")}
	if now.sayWhat(&was) || was.sayWhat(&objects{}) {
		t.Error("other Services are nothing new")
	}
}

func TestWhoIgnoresSessionAffinitySaysSo(t *testing.T) {
	sticky := func(name string) *corev1.Service {
		s := service(name, "http:80")
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		return s
	}
	services := []*corev1.Service{sticky("exported"), sticky("meshed"), service("not-sticky", "http:80"), sticky("plain")}
	of := func(name string, export bool, id string) discovery.Service {
		return discovery.Service{Name: mesh.ServiceName{Namespace: "shop", Name: name}, Export: &export, Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Identity: id}}}}}
	}
	var got []string
	for _, s := range spreadAnyway(services, []discovery.Service{of("exported", true, ""), of("meshed", false, "spiffe://x"), of("not-sticky", true, "spiffe://x"), of("plain", false, "")}) {
		got = append(got, s.Name)
	}
	if !slices.Equal(got, []string{"exported", "meshed"}) {
		t.Errorf("%v", got)
	}
	for _, c := range exportConditions(&mcsv1beta1.ServiceExport{ObjectMeta: named("shop", "exported")}, services[0]) {
		if c.Type == "Ready" && !strings.Contains(c.Message, "its sessionAffinity is not kept") {
			t.Errorf("%+v", c)
		}
	}
}
