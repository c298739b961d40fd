package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// namesItself is a program that answers with its name.
func namesItself(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name+" "+r.URL.Path) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

const (
	ordersRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: orders}
spec:
  parentRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: orders}]
  rules:
    - matches: [{path: {value: /v2}}, {headers: [{name: X-Version, value: "2"}]}]
      backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: orders-v2, port: 80}]
    - backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: orders, port: 80}]
`
	frontRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: front, name: orders}
spec:
  parentRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, namespace: shop, name: orders}]
  rules:
    - backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, namespace: shop, name: orders-v2, port: 80}]
`
	anybodyMayCall = `apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: anybody}
spec: {rules: [{from: ["*"]}]}
`
)

func TestRoutesFromFilesSayWhereTheRequestsOfAClusterGo(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.sidecar("east", "orders-1", "shop/orders", "http", namesItself(t, "v1"), "")
	m.sidecar("west", "orders-v2-1", "shop/orders-v2", "http", namesItself(t, "v2"), "")
	own := "http://" + m.sidecar("east", "own", "shop/web", "", "", "shop/orders").listener
	front := "http://" + m.sidecar("east", "front", "front/web", "", "", "shop/orders").listener
	for _, cluster := range []string{"east", "west"} {
		m.resource(cluster, "anybody", anybodyMayCall)
	}
	m.settled(map[string]uint32{"east shop/orders": 1, "west shop/orders-v2": 1})
	m.answers(own+"/v2", "v1 /v2")
	m.answers(front+"/", "v1 /")

	// The service's own route holds for everybody, and leads to another cluster where a
	// ServiceImport is the backend.
	m.resource("east", "orders-route", ordersRoute)
	m.answers(own+"/v2/a", "v2 /v2/a")
	m.answers(own+"/", "v1 /")
	m.answers(front+"/v2/a", "v2 /v2/a")

	// That of another namespace takes its place for the callers of that.
	m.resource("east", "front-route", frontRoute)
	m.answers(front+"/", "v2 /")
	m.answers(own+"/", "v1 /")

	// What no rule matches is not there, and what names nobody is broken.
	m.resource("east", "orders-route", strings.Replace(strings.Replace(ordersRoute, "    - backendRefs", "    - matches: [{path: {value: /v1}}]\n      backendRefs", 1), "orders-v2", "nobody", 1))
	m.says(own+"/", 404, "no rule")
	m.says(own+"/v2", 500, "HTTPRoute shop/orders rule 0")
	m.answers(own+"/v1", "v1 /v1")
	m.answers(front+"/", "v2 /")
}
