package imports

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var orders = mesh.ServiceName{Namespace: "shop", Name: "orders"}

// offer is what a cluster exports since a minute, by a ServiceExport: ports are "name 80/TCP".
func offer(cluster mesh.ClusterName, minute int, ports ...string) Offer {
	o := Offer{Cluster: cluster, Export: mesh.Export{Service: orders, ClusterSet: &mesh.ClusterSet{Since: time.Unix(int64(60*minute), 0)}}}
	for _, text := range ports {
		name, rest, _ := strings.Cut(text, " ")
		number, protocol, _ := strings.Cut(rest, "/")
		var n uint16
		for _, d := range number {
			n = 10*n + uint16(d-'0')
		}
		o.Export.ClusterSet.Ports = append(o.Export.ClusterSet.Ports, mesh.ClusterSetPort{Name: name, Protocol: protocol, Port: n})
		if protocol == "TCP" {
			o.Export.Ports = append(o.Export.Ports, mesh.ExportPort{Port: n, Protocol: mesh.TCP})
		}
	}
	return o
}

// with changes what an offer says.
func with(o Offer, change func(*mesh.ClusterSet)) Offer {
	change(o.Export.ClusterSet)
	return o
}

// plain is the offer of a cluster without Kubernetes.
func plain(cluster mesh.ClusterName, ports ...mesh.ExportPort) Offer {
	return Offer{Cluster: cluster, Export: mesh.Export{Service: orders, Ports: ports}}
}

// shown is what a ServiceImport shows, as text: "name 80/TCP" for ports, then the reasons of conflicts.
func shown(i *Import) []string {
	var all []string
	for _, p := range i.object(nil, nil, nil).Spec.Ports {
		text := p.Name + " " + portText(p)
		if p.AppProtocol != nil {
			text += " " + *p.AppProtocol
		}
		all = append(all, text)
	}
	for _, c := range i.Conflicts {
		all = append(all, string(c.Reason))
	}
	return all
}

func portText(p mcs.ServicePort) string {
	digits := ""
	for n := p.Port; n > 0; n /= 10 {
		digits = string(rune('0'+n%10)) + digits
	}
	return digits + "/" + string(p.Protocol)
}

func TestPortsAreTheUnionAndTheOldestExportDecidesWhatClashes(t *testing.T) {
	for name, test := range map[string]struct {
		offers []Offer
		want   []string
	}{
		"one exporter": {[]Offer{offer("east", 1, "tcp 42/TCP", "udp 42/UDP")}, []string{"tcp 42/TCP", "udp 42/UDP"}},
		"two that agree, in another order": {[]Offer{offer("east", 1, "a 1/TCP", "b 2/TCP"), offer("west", 2, "b 2/TCP", "a 1/TCP")},
			[]string{"a 1/TCP", "b 2/TCP"}},
		"another port": {[]Offer{offer("west", 2, "tcp 42/TCP", "stcp 142/SCTP"), offer("east", 1, "tcp 42/TCP", "udp 42/UDP")},
			[]string{"tcp 42/TCP", "udp 42/UDP", "stcp 142/SCTP", "PortConflict"}},
		"one name, two numbers":               {[]Offer{offer("west", 2, "tcp 43/TCP"), offer("east", 1, "tcp 42/TCP")}, []string{"tcp 42/TCP", "PortConflict"}},
		"the older one is elsewhere":          {[]Offer{offer("west", 1, "tcp 43/TCP"), offer("east", 2, "tcp 42/TCP")}, []string{"tcp 43/TCP", "PortConflict"}},
		"one number, two names":               {[]Offer{offer("east", 1, "web 80/TCP"), offer("west", 2, "http 80/TCP")}, []string{"web 80/TCP", "PortConflict"}},
		"at the same time the cluster's name": {[]Offer{offer("west", 1, "tcp 43/TCP"), offer("east", 1, "tcp 42/TCP")}, []string{"tcp 42/TCP", "PortConflict"}},
		"a cluster of plain machines": {[]Offer{plain("old", mesh.ExportPort{Port: 80, Protocol: mesh.HTTP}, mesh.ExportPort{Port: 9000, Protocol: mesh.GRPC}, mesh.ExportPort{Port: 5432, Protocol: mesh.TCP})},
			[]string{"http-80 80/TCP http", "grpc-9000 9000/TCP grpc", "tcp-5432 5432/TCP"}},
		"a cluster of plain machines beside": {[]Offer{plain("old", mesh.ExportPort{Port: 80, Protocol: mesh.HTTP}), offer("east", 1, "web 80/TCP")}, []string{"web 80/TCP"}},
		"a cluster of plain machines with another port": {[]Offer{plain("old", mesh.ExportPort{Port: 81, Protocol: mesh.TCP}), offer("east", 1, "web 80/TCP")},
			[]string{"web 80/TCP", "tcp-81 81/TCP", "PortConflict"}},
		"what no API server takes": {[]Offer{offer("east", 1, "Web! 80/TCP", "ok 81/TCP", "no 82/ICMP", "zero 0/TCP")}, []string{"ok 81/TCP"}},
	} {
		if diff := cmp.Diff(test.want, shown(Join(orders, test.offers))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheOldestExportDecidesWhatAnImportIsAndEveryDifferenceIsAConflict(t *testing.T) {
	first := with(offer("east", 1, "web 80/TCP"), func(c *mesh.ClusterSet) {
		c.Headless, c.SessionAffinity, c.AffinityTimeout = true, "ClientIP", 10
		c.InternalTrafficPolicy, c.TrafficDistribution = "Cluster", "PreferClose"
		c.Labels, c.Annotations = map[string]string{"team": "shop", labelManaged: "thief"}, map[string]string{"note": "a\nb"}
	})
	i := Join(orders, []Offer{offer("west", 2, "web 80/TCP"), first, plain("old", mesh.ExportPort{Port: 80, Protocol: mesh.HTTP})})
	timeout, local, close := int32(10), corev1.ServiceInternalTrafficPolicyCluster, "PreferClose"
	spec := mcs.ServiceImportSpec{
		Type: mcs.Headless, Ports: []mcs.ServicePort{{Name: "web", Protocol: corev1.ProtocolTCP, Port: 80}}, SessionAffinity: corev1.ServiceAffinityClientIP,
		SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}},
		InternalTrafficPolicy: &local, TrafficDistribution: &close,
	}
	o := i.object(nil, nil, nil)
	if diff := cmp.Diff(spec, o.Spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "shop", labelManaged: managedBy}, o.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"note": "a\nb"}, o.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]mesh.ClusterName{"east", "old", "west"}, i.Clusters); diff != "" {
		t.Errorf("clusters (-want +got):\n%s", diff)
	}
	c := conflictCondition(i, 3)
	want := "TypeConflict,SessionAffinityConflict,SessionAffinityConfigConflict,InternalTrafficPolicyConflict,TrafficDistributionConflict,LabelsConflict,AnnotationsConflict"
	if c.Reason != want || c.Status != "True" || !strings.HasPrefix(c.Message, "type: east has Headless, which counts, and west ClusterSetIP; ") {
		t.Errorf("%+v", c)
	}
	if c := conflictCondition(Join(orders, []Offer{first}), 3); c.Status != "False" || c.Reason != "NoConflicts" {
		t.Errorf("one exporter: %+v", c)
	}
}

func TestWhatAnotherClusterSaysIsOnlyTakenWhereAnAPIServerWould(t *testing.T) {
	i := Join(orders, []Offer{with(offer("east", 1, "web 80/TCP"), func(c *mesh.ClusterSet) {
		c.SessionAffinity, c.AffinityTimeout = "ClientIP", 1<<30
		c.InternalTrafficPolicy, c.TrafficDistribution = "Nowhere", "no such thing"
		c.Labels = map[string]string{"a b": "c", "d": "e f", "isthmus.io/inject": "disabled", "ok": ""}
	})})
	o := i.object(nil, nil, nil)
	if o.Spec.SessionAffinityConfig != nil || o.Spec.InternalTrafficPolicy != nil || o.Spec.TrafficDistribution != nil {
		t.Errorf("%+v", o.Spec)
	}
	if diff := cmp.Diff(map[string]string{"ok": "", labelManaged: managedBy}, o.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
