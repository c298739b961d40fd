package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// legacyOf is the Service resource of a program without a sidecar, with more of its spec.
func legacyOf(program *httptest.Server, spec string) string {
	return fmt.Sprintf(`apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: legacy}
spec: {export: true, ports: [{port: 80, protocol: http}], endpoints: [%q]%s}
`, program.Listener.Addr(), spec)
}

// says returns what a command says, also when it fails.
func says(args ...string) (string, error) {
	out, err := harness.Isthmus(binary, args...)
	if err != nil {
		out = err.Error()
	}
	return out, err
}

func TestTheGatewayDecidesWhoMayCallAPlainEndpointAndAuthzSaysTheSame(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	west := m.gateway("west", "west-1")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "legacy") }))
	t.Cleanup(program.Close)
	m.resource("west", "legacy", legacyOf(program, ""))
	own := "http://" + m.sidecar("east", "own", "shop/web", "", "", "shop/legacy").listener
	front := "http://" + m.sidecar("east", "front", "front/web", "", "", "shop/legacy").listener
	m.settled(map[string]uint32{"west shop/legacy": 1})

	// authz waits until the gateway would decide so, for the reason that has this text.
	authz := func(decision, why string) {
		t.Helper()
		m.eventually(func() error {
			out, err := says("authz", "east/front/web", "shop/legacy", "-o", "json", "--admin", west.admin)
			var a status.Authorization
			from, to := strings.Index(out, "{"), strings.LastIndex(out, "}")
			if from < 0 || json.Unmarshal([]byte(out[from:to+1]), &a) != nil || a.Decision != decision || !strings.Contains(a.Why, why) || a.Where != "gateway" || (err == nil) != (decision == "allowed") {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	m.answers(own+"/", "legacy")
	m.says(front+"/", 403, "write allow: [shop/*, front/web] in Service shop/legacy to permit this")
	authz("refused", "by default only namespace shop")

	m.resource("west", "legacy", legacyOf(program, `, allow: ["shop/*", front/web]`))
	authz("allowed", "Service shop/legacy allow[1]")
	m.answers(front+"/", "legacy")

	// Nobody sees the requests: a rule about them denies whatever is asked for.
	m.resource("west", "no-deletes", `apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: no-deletes}
spec: {action: deny, rules: [{from: ["front/*"], methods: [DELETE]}]}
`)
	m.says(front+"/", 403, "AuthorizationPolicy shop/no-deletes rules[0]")
	m.answers(own+"/", "legacy")
	m.eventually(func() error {
		out, _ := says("status", "--admin", west.admin) // it fails: something is wrong
		if !strings.Contains(out, "shop/legacy has endpoints without a sidecar, whose requests nobody sees: there it denies") {
			return fmt.Errorf("status: %s", out)
		}
		return nil
	})

	// What cannot be read changes nothing, and is told.
	m.resource("west", "no-deletes", "kind: AuthorisationPolicy\n")
	m.eventually(func() error {
		out, _ := says("status", "--admin", west.admin)
		if !strings.Contains(out, "resource file no-deletes.yaml is bad") {
			return fmt.Errorf("status: %s", out)
		}
		return nil
	})
	authz("refused", "AuthorizationPolicy shop/no-deletes rules[0]")
	_, metrics, err := get("http://" + west.admin + "/metrics")
	if err != nil || !strings.Contains(metrics, `isthmus_authorization_decisions_total{cause="deny_rule",decision="refused"}`) {
		t.Errorf("not counted: %v", err)
	}
}
