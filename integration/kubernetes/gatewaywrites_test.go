package kubernetes

import (
	"strings"
	"testing"
)

// A gateway that somebody has taken over writes with its account to the API server.
func TestGatewaysWriteNoServiceThatStandsForNoneOfTheMesh(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const (
		service = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: default, labels: {LABEL: orders}}\nspec: {TYPE, ports: [{port: 80}]}"
		slice   = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: NAME, namespace: default, labels: {LABEL: orders, kubernetes.io/service-name: TYPE}}\n" +
			"addressType: IPv4\nendpoints: [{addresses: [10.42.0.9]}]\nports: [{name: http, port: 80}]"
	)
	write := func(input string, args ...string) (string, error) {
		args = append(args, "--dry-run=server", "--as", "system:serviceaccount:"+system+":isthmus-gateway", "--as-group", "system:serviceaccounts", "--as-group", "system:authenticated")
		return w.east.Kubectl(t.Context(), input, args...)
	}
	for _, c := range []struct{ kind, name, label, is, denied string }{
		{service, "derived-a", "isthmus.io/service-import", "type: ClusterIP", ""},
		{service, "orders", "isthmus.io/service-import", "type: ClusterIP", "and nothing else"},
		{service, "derived-a", "app", "type: ClusterIP", "and nothing else"},
		{service, "derived-a", "isthmus.io/service-import", "type: NodePort", "called from outside"},
		{service, "derived-a", "isthmus.io/service-import", "externalIPs: [192.0.2.1]", "at others' addresses"},
		{slice, "derived-a", "isthmus.io/service-import", "derived-a", ""},
		{slice, "derived-a", "isthmus.io/service-import", "kubernetes", "of other Services"},
		{slice, "orders", "isthmus.io/service-import", "derived-a", "and nothing else"},
	} {
		manifest := strings.NewReplacer("NAME", c.name, "LABEL", c.label, "TYPE", c.is).Replace(c.kind)
		_, err := write(manifest, "apply", "--server-side", "-f", "-")
		if c.denied == "" && err != nil || c.denied != "" && (err == nil || !strings.Contains(err.Error(), c.denied)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := write("", "-n", "default", "delete", "service", "kubernetes"); err == nil || !strings.Contains(err.Error(), "and nothing else") {
		t.Errorf("a Service of somebody else is deleted: %v", err)
	}
}
