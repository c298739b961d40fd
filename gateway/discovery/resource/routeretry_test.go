package resource

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	retriedHTTP = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: orders}
spec:
  parentRefs: [{group: "", kind: Service, name: orders}]
  rules:
    - matches: [{path: {value: /a}}]
      retry: {codes: [503, 500], attempts: 3, backoff: 100ms}
    - matches: [{path: {value: /b}}]
      retry: {}
    - {}
`
	retriedGRPC = `apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata:
  namespace: shop
  name: orders
  annotations:
    team: a
    isthmus.io/retry: '{codes: [UNAVAILABLE, 503], attempts: 2}'
spec:
  parentRefs: [{group: "", kind: Service, name: orders}]
  rules: [{}]
`
)

func TestARouteSaysWhatIsSentAgain(t *testing.T) {
	call := &mesh.Retry{Codes: []int{503}, Statuses: []string{"UNAVAILABLE"}, Attempts: 2}
	annotated := strings.Replace(retriedHTTP, "name: orders}", "name: orders, annotations: {isthmus.io/retry: '{codes: [503, UNAVAILABLE], attempts: 2}'}}", 1)
	for text, want := range map[string][]*mesh.Retry{
		retriedHTTP: {{Codes: []int{500, 503}, Attempts: 3, Backoff: 100 * time.Millisecond}, {Attempts: 1}, nil},
		annotated:   {{Codes: []int{500, 503}, Attempts: 3, Backoff: 100 * time.Millisecond}, {Attempts: 1}, call}, // a rule's own word counts
		retriedGRPC: {call},
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []*mesh.Retry
		for _, r := range c.Routes[0].Rules {
			got = append(got, r.Action.Retry)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nsays %+v, want %+v", text, got, want)
		}
	}
}

func TestARetryThatIsNotDoneIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct{ text, was, is, want string }{
		{retriedHTTP, "503, 500", "302, UNAVAILABLE", `f.yaml:8: spec.rules[0].retry.codes[1]: "UNAVAILABLE" is not a whole number`},
		{retriedHTTP, "503, 500", "302", `f.yaml:8: spec.rules[0].retry.codes: 302 is no status of an error: write 400 to 599`},
		{retriedHTTP, "attempts: 3", "attempts: 0", `f.yaml:8: spec.rules[0].retry.attempts: 0 is out of range: write 1 to 5`},
		{retriedHTTP, "attempts: 3", "attempts: 6", `f.yaml:8: spec.rules[0].retry.attempts: 6 is out of range: write 1 to 5`},
		{retriedHTTP, "100ms", "1m", `f.yaml:8: spec.rules[0].retry.backoff: 1m0s is out of range: write at most 10s`},
		{retriedHTTP, "attempts: 3", "tries: 3", `f.yaml:8: spec.rules[0].retry.tries: `},
		{retriedGRPC, "[UNAVAILABLE, 503]", "[NOT_FOUND]", `f.yaml:8: metadata.annotations.isthmus.io/retry: codes[0]: "NOT_FOUND" is nothing upon which a request is sent again: write a status of HTTP, 400 to 599, or of gRPC: CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL or UNAVAILABLE`},
		{retriedGRPC, "503", "200", `f.yaml:8: metadata.annotations.isthmus.io/retry: codes: 200 is no status of an error: write 400 to 599`},
		{retriedGRPC, "attempts: 2", "attempts: many", `f.yaml:8: metadata.annotations.isthmus.io/retry: attempts: "many" is not a whole number`},
		{retriedGRPC, "'{codes: [UNAVAILABLE, 503], attempts: 2}'", "UNAVAILABLE", `f.yaml:8: metadata.annotations.isthmus.io/retry: "UNAVAILABLE" is not understood: write '{codes: [UNAVAILABLE, 503], attempts: 2}'`},
		{retriedGRPC, "'{codes: [UNAVAILABLE, 503], attempts: 2}'", "''", `f.yaml:8: metadata.annotations.isthmus.io/retry: "" is not understood: write '{codes: [UNAVAILABLE, 503], attempts: 2}'`},
		{retriedGRPC, "isthmus.io/retry", "isthmus.io/retries", `f.yaml:8: metadata.annotations.isthmus.io/retries: is not known: a route can have isthmus.io/retry`},
		{retriedGRPC, "rules: [{}]", "rules: [{retry: {}}]", `f.yaml:11: spec.rules[0].retry: `},
	} {
		_, err := Parse("f.yaml", []byte(strings.Replace(c.text, c.was, c.is, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.is, err, c.want)
		}
	}
}
