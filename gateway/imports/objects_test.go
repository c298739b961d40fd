package imports

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var owner = &mcs.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders", UID: "u1"}}

// allocated is a derived Service as an API server has it.
func allocated(i *Import, ports map[uint16]uint16, ips ...string) *corev1.Service {
	s := i.derived(ports, owner)
	for _, ip := range ips {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip)
		family := corev1.IPv4Protocol
		if strings.Contains(ip, ":") {
			family = corev1.IPv6Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
	return s
}

// lines writes EndpointSlices as text.
func lines(all []*discoveryv1.EndpointSlice) (text []string) {
	for _, s := range all {
		line := s.Name
		for _, l := range []string{discoveryv1.LabelServiceName, mcs.LabelServiceName, mcs.LabelSourceCluster} {
			if v := s.Labels[l]; v != "" {
				line += " " + l[strings.IndexByte(l, '/')+1:] + "=" + v
			}
		}
		for _, e := range s.Endpoints {
			line += fmt.Sprintf(" %s:%v", e.Addresses[0], *e.Conditions.Ready)
		}
		for _, p := range s.Ports {
			line += fmt.Sprintf(" %s=%d", *p.Name, *p.Port)
		}
		text = append(text, line)
	}
	return text
}

func gatewaySlice(family discoveryv1.AddressType, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{AddressType: family}
	for n, a := range addresses {
		ready := !strings.HasSuffix(a, "!")
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{strings.TrimSuffix(a, "!")},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: &ready}, // the Service publishes who is not ready
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprintf("isthmus-gateway-%d", n)}})
	}
	return s
}

func TestKubeProxyFindsTheEntranceAndReadersOfMCSEveryCluster(t *testing.T) {
	gateways := gatewaysOf([]*discoveryv1.EndpointSlice{gatewaySlice(discoveryv1.AddressTypeIPv4, "10.42.0.5", "10.42.0.4!"), gatewaySlice(discoveryv1.AddressTypeIPv6, "fd00::5")})
	i := Join(orders, []Offer{offer("east", 1, "web 80/TCP", "dns 53/UDP"), offer("west", 2, "web 80/TCP", "admin 81/TCP")})
	ports := map[uint16]uint16{80: 20080, 81: 20081}
	name := derivedName(orders)
	want := []string{
		name + "-ipv4-east service-name=" + name + " service-name=orders source-cluster=east 10.42.0.4:false 10.42.0.5:true web=20080",
		name + "-ipv4-west service-name=" + name + " service-name=orders source-cluster=west 10.42.0.4:false 10.42.0.5:true web=20080 admin=20081",
		name + "-ipv6-east service-name=" + name + " service-name=orders source-cluster=east fd00::5:true web=20080",
		name + "-ipv6-west service-name=" + name + " service-name=orders source-cluster=west fd00::5:true web=20080 admin=20081",
	}
	if diff := cmp.Diff(want, lines(i.slices(allocated(i, ports, "10.43.0.9"), ports, gateways, owner))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAHeadlessImportIsAnsweredWithTheDerivedServicesAddress(t *testing.T) {
	gateways := gatewaysOf([]*discoveryv1.EndpointSlice{gatewaySlice(discoveryv1.AddressTypeIPv4, "10.42.0.5")})
	i := Join(orders, []Offer{with(offer("east", 1, "web 80/TCP"), func(c *mesh.ClusterSet) { c.Headless = true })})
	ports := map[uint16]uint16{80: 20080}
	derived := allocated(i, ports, "10.43.0.9")
	name := derivedName(orders)
	want := []string{
		name + "-ipv4 service-name=" + name + " 10.42.0.5:true web=20080",
		name + "-ipv4-east service-name=orders source-cluster=east 10.43.0.9:true web=80",
	}
	if diff := cmp.Diff(want, lines(i.slices(derived, ports, gateways, owner))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if o := i.object(derived, nil, nil); len(o.Spec.IPs) > 0 || len(o.Spec.IPFamilies) != 1 {
		t.Errorf("a headless import has the addresses %v and families %v", o.Spec.IPs, o.Spec.IPFamilies)
	}
}

func TestAnImportHasTheAddressesOfItsDerivedServiceWhoseNameIsAlwaysTheSame(t *testing.T) {
	i := Join(orders, []Offer{offer("east", 1, " 80/TCP")})
	s := allocated(i, map[uint16]uint16{80: 20080}, "10.43.0.9", "fd00::9")
	if s.Name != "derived-ch7nn37llija" {
		t.Errorf("the derived Service is called %s", s.Name)
	}
	if p := s.Spec.Ports[0]; p.Name != "tcp-80" || p.TargetPort.IntValue() != 20080 {
		t.Errorf("its port is %+v", p)
	}
	o := i.object(s, nil, nil)
	if diff := cmp.Diff([]string{"10.43.0.9", "fd00::9"}, o.Spec.IPs); diff != "" || o.Spec.Ports[0].Name != "" {
		t.Errorf("%+v", o.Spec)
	}
	status := i.status(o)
	if len(status.Clusters) != 1 || status.Conditions[0].Status != metav1.ConditionTrue || status.EndpointSliceObjects != "" {
		t.Errorf("%+v", status)
	}
	if none := Join(orders, []Offer{offer("east", 1, "dns 53/UDP")}); none.derived(nil, owner) != nil || none.slices(nil, nil, nil, owner) != nil {
		t.Error("a Service without a port that the mesh carries")
	}
}

func TestPortsOfTheEntranceStayWhatTheyAreAndAreNeverGivenTwice(t *testing.T) {
	r := Range{20000, 20003}
	imports := func(names ...string) (all []*Import) {
		for _, n := range names {
			o := offer("east", 1, "web 80/TCP")
			all = append(all, Join(mesh.ServiceName{Namespace: n, Name: "orders"}, []Offer{o}))
		}
		return all
	}
	written := func(all []*Import, a allocation) (objects []*mcs.ServiceImport) {
		for _, i := range all {
			objects = append(objects, i.object(nil, a[i.Service], nil))
		}
		return objects
	}
	three := imports("a", "b", "c")
	first, err := allocate(three, nil, r, new(resting))
	if err != nil {
		t.Fatal(err)
	}
	again, err := allocate(imports("a", "a0", "b", "c"), written(three, first), r, new(resting))
	if err != nil {
		t.Fatal(err)
	}
	var given []uint16
	for _, n := range []string{"a", "a0", "b", "c"} {
		name := mesh.ServiceName{Namespace: n, Name: "orders"}
		if was := first[name][80]; was != 0 && was != again[name][80] {
			t.Errorf("%s had port %d and has %d", n, was, again[name][80])
		}
		given = append(given, again[name][80])
	}
	slices.Sort(given)
	if diff := cmp.Diff([]uint16{20000, 20001, 20002, 20003}, given); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := allocate(imports("a", "b", "c", "d", "e"), nil, r, new(resting)); err == nil || !strings.Contains(err.Error(), "widen entrance.ports") {
		t.Errorf("five in a range of four: %v", err)
	}
	if a, err := allocate(three, nil, Range{}, new(resting)); err != nil || a[three[0].Service][80] != 0 {
		t.Errorf("without an entrance: %v, %v", a, err)
	}
	ports := Entrances(written(three, first), r)
	for _, i := range three {
		if got := ports[first[i.Service][80]]; got != (mesh.Destination{Service: i.Service, Port: 80}) {
			t.Errorf("port %d leads to %s", first[i.Service][80], got)
		}
	}
	stranger := written(three, first)[0]
	stranger.Labels = nil
	if got := Entrances([]*mcs.ServiceImport{stranger}, r); len(got) > 0 {
		t.Errorf("a ServiceImport that is not ours is followed: %v", got)
	}
}

func TestAPortOfTheEntranceThatNobodyHasRestsBeforeAnotherServiceHasIt(t *testing.T) {
	r := Range{20000, 20003}
	of := func(name string) []*Import {
		return []*Import{Join(mesh.ServiceName{Namespace: "shop", Name: name}, []Offer{offer("east", 1, "web 80/TCP")})}
	}
	at := func(a allocation, name string) uint16 { return a[mesh.ServiceName{Namespace: "shop", Name: name}][80] }
	begin := time.Now()
	var rests resting
	names := []string{"a", "b", "c", "d", "e"}
	seen := map[uint16]bool{}
	// One after the other each is the only import, and is removed before the next.
	for n, name := range names {
		now := begin.Add(time.Duration(n) * time.Second)
		rests.update(nil, now)
		got, err := allocate(of(name), nil, r, &rests)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := allocate(of(name), nil, r, &rests); at(again, name) != at(got, name) {
			t.Errorf("%s has port %d, and then %d", name, at(got, name), at(again, name))
		}
		switch full := n == len(names)-1; {
		case !full && seen[at(got, name)]:
			t.Errorf("%s has port %d, which another one has just had", name, at(got, name))
		case full && rests.of[at(got, name)].last.Service.Name != "a":
			t.Errorf("all rest, and %s has the port of %s, want that which rests for longest", name, rests.of[at(got, name)].last.Service)
		}
		seen[at(got, name)] = true
		rests.update(Entrances([]*mcs.ServiceImport{of(name)[0].object(nil, got[of(name)[0].Service], nil)}, r), now)
	}
	rests.update(nil, begin.Add(10*time.Second))
	// Who had it itself has it again.
	if got, err := allocate(of("d"), nil, r, &rests); err != nil || rests.of[at(got, "d")].last.Service.Name != "d" {
		t.Errorf("d: %v, %v, %v", got, err, rests.of)
	}
	if rests.update(nil, begin.Add(10*time.Second+restFor)); len(rests.of) != 0 {
		t.Errorf("they rest for ever: %v", rests.of)
	}
}

// Whoever may write Services in one namespace may write some that look like derived ones,
// and change those that are.
func TestAServiceOfOneNamespaceTakesNoPortOfTheEntranceFromAnImportOfAnother(t *testing.T) {
	r := Range{20000, 20009}
	orders := Join(mesh.ServiceName{Namespace: "shop", Name: "orders"}, []Offer{offer("east", 1, "web 80/TCP")})
	evil := Join(mesh.ServiceName{Namespace: "attic", Name: "evil"}, []Offer{offer("east", 1, "web 80/TCP")})
	ports := map[uint16]uint16{80: 20005}
	w := world{imports: []*mcs.ServiceImport{orders.object(nil, ports, nil)}, derived: []*corev1.Service{evil.derived(ports, owner), orders.derived(ports, owner)}}
	if got := Entrances(w.imports, r)[20005]; got.Service != orders.Service {
		t.Errorf("port 20005 leads to %s", got)
	}
	got, err := allocate([]*Import{evil, orders}, w.imports, r, new(resting))
	if err != nil || got[orders.Service][80] != 20005 || got[evil.Service][80] == 20005 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnExporterDoesNotSayOnWhichPortOfTheEntranceItIsCalled(t *testing.T) {
	r := Range{20000, 20009}
	said := with(offer("east", 1, "web 80/TCP"), func(c *mesh.ClusterSet) { c.Annotations = map[string]string{entranceAnnotation: "80=20001", "a": "b"} })
	i := Join(orders, []Offer{said})
	for _, ports := range []map[uint16]uint16{nil, {80: 20005}} {
		o := i.object(nil, ports, nil)
		if to := Entrances([]*mcs.ServiceImport{o}, r); len(to) != len(ports) || to[20001].Port != 0 || o.Annotations["a"] != "b" {
			t.Errorf("%v leads to %v", o.Annotations, to)
		}
	}
}

func TestOfAnImportsEntranceWhatIsNoPortIsNotRead(t *testing.T) {
	o := &mcs.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders", Labels: map[string]string{labelManaged: managedBy},
		Annotations: map[string]string{entranceAnnotation: "80=20001,81,=20002,82=,83=70000,84=15012,0=20003,-1=20004,85=20001,86=20006"}}}
	got := Entrances([]*mcs.ServiceImport{o}, Range{20000, 20009})
	want := map[uint16]mesh.Destination{20001: {Service: orders, Port: 80}, 20006: {Service: orders, Port: 86}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAGatewayThatDoesNotKnowAllTakesNoClusterFromAnImport(t *testing.T) {
	w := &mcs.ServiceImport{Status: mcs.ServiceImportStatus{Clusters: []mcs.ClusterStatus{{Cluster: "east"}, {Cluster: "west"}}}}
	if knowsAllOf(Join(orders, []Offer{offer("east", 1)}), w) {
		t.Error("west would be taken out")
	}
	if !knowsAllOf(Join(orders, []Offer{offer("east", 1), offer("west", 1), offer("north", 1)}), w) {
		t.Error("north is not added")
	}
}

func TestOnlyNamespacesThatExistAndStayGetImports(t *testing.T) {
	leaving := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	w := &world{namespaces: []*corev1.Namespace{leaving, {ObjectMeta: metav1.ObjectMeta{Name: "shop"}}},
		offers: &offers{byService: map[mesh.ServiceName][]Offer{}}}
	for _, ns := range []string{"shop", "leaving", "zoo"} {
		w.offers.byService[mesh.ServiceName{Namespace: ns, Name: "orders"}] = []Offer{offer("east", 1)}
	}
	if all, _ := w.wanted(); len(all) != 1 || all[0].Service != orders {
		t.Errorf("%v", all)
	}
}

func TestANamespaceThatExportsTooMuchTakesNoImportFromAnother(t *testing.T) {
	w := &world{namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "attic"}}, {ObjectMeta: metav1.ObjectMeta{Name: "shop"}}},
		offers: &offers{byService: map[mesh.ServiceName][]Offer{orders: {offer("east", 1, "web 80/TCP")}}}}
	for n := range maxImports + 1 {
		w.offers.byService[mesh.ServiceName{Namespace: "attic", Name: fmt.Sprintf("s%d", n)}] = []Offer{offer("east", 1, "web 80/TCP")}
	}
	all, tooMany := w.wanted()
	if len(all) != maxImports || tooMany != 2 || !slices.ContainsFunc(all, func(i *Import) bool { return i.Service == orders }) {
		t.Errorf("%d imports, %d left out, and orders is one of these", len(all), tooMany)
	}
	ports, err := allocate(all, nil, Range{20000, 20009}, new(resting))
	if err == nil || ports[orders][80] == 0 {
		t.Errorf("orders has port %d of the entrance, %v", ports[orders][80], err)
	}
	attic := slices.DeleteFunc(all, func(i *Import) bool { return i.Service == orders })
	first, _ := allocate(attic, nil, Range{20000, 20009}, new(resting))
	var written []*mcs.ServiceImport
	for _, i := range attic {
		written = append(written, i.object(nil, first[i.Service], nil))
	}
	last, _ := allocate(append(attic, Join(orders, []Offer{offer("east", 1, "web 80/TCP")})), written, Range{20000, 20009}, new(resting))
	if held := len(Entrances(written, Range{20000, 20009})); held != 5 || last[orders][80] == 0 {
		t.Errorf("attic came first and has %d ports of ten, and orders %d", held, last[orders][80])
	}
}

func TestWhoDoesNotWriteSeesThatAGatewayHasGoneAndTheWriterDidNot(t *testing.T) {
	i := &Imports{cfg: Config{Ports: Range{20000, 20010}}}
	w := world{namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}, imports: []*mcs.ServiceImport{owner},
		offers:   &offers{byService: map[mesh.ServiceName][]Offer{orders: {offer("east", 1, "web 80/TCP")}}},
		gateways: []*discoveryv1.EndpointSlice{gatewaySlice(discoveryv1.AddressTypeIPv4, "10.42.0.5", "10.42.0.6")}}
	wanted, _ := w.wanted()
	ports, err := allocate(wanted, nil, i.cfg.Ports, new(resting))
	if err != nil {
		t.Fatal(err)
	}
	derived := allocated(wanted[0], ports[orders], "10.43.0.9")
	w.derived = []*corev1.Service{derived}
	if late := i.stale(w); len(late) > 0 {
		t.Errorf("what nobody has made is not stale: %v", lines(late))
	}
	w.slices = wanted[0].slices(derived, ports[orders], gatewaysOf(w.gateways), owner)
	if late := i.stale(w); len(late) > 0 {
		t.Errorf("nothing has changed, and is stale: %v", lines(late))
	}
	w.gateways = []*discoveryv1.EndpointSlice{gatewaySlice(discoveryv1.AddressTypeIPv4, "10.42.0.6")}
	if late := i.stale(w); len(late) != 1 || len(late[0].Endpoints) != 1 || late[0].Endpoints[0].Addresses[0] != "10.42.0.6" {
		t.Errorf("%v", lines(late))
	}
}
