package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

func TestAuthzSaysWhatWouldBecomeOfACall(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(`apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec: {export: true, ports: [{port: 80, protocol: http}], allow: [shop/*, front/web]}
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: no-admin}
spec: {action: deny, services: [orders], rules: [{from: [front/*], paths: [/admin/*]}]}
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: try}
spec: {action: deny, dryRun: true, rules: [{from: [shop/cron]}]}
---
apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: legacy}
spec: {ports: [{port: 5432}], endpoints: [10.0.0.1]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"front/web shop/orders GET /":                                   {0, "allowed by Service shop/orders allow[1]"},
		"west/front/web orders.shop.mesh:80 GET //orders":               {0, "GET /orders"},
		"front/web shop/orders GET /public/../admin":                    {1, "denied by AuthorizationPolicy shop/no-admin rules[0]"},
		"front/web shop/orders":                                         {1, "give METHOD and PATH"},
		"shop/cart shop/orders":                                         {0, "allowed by Service shop/orders allow[0]"},
		"shop/cron shop/orders":                                         {0, "refused: denied by AuthorizationPolicy shop/try rules[0]"},
		"zoo/ape shop/orders":                                           {1, "nothing in allow list of Service shop/orders allows it: add zoo/ape"},
		"zoo/ape shop/legacy":                                           {1, "write allow: [shop/*, zoo/ape] in Service shop/legacy"},
		"west/shop/cart shop/legacy":                                    {1, "is not exported by cluster here"},
		"shop/cart shop/legacy":                                         {0, "by the gateway"},
		"zoo/ape shop/legacy:5432":                                      {1, "sidecars of cluster here dial these endpoints directly"},
		"west/front/web shop/orders GET /a":                             {0, "only if the certificate of cluster west names namespace front or none; else refused: nothing in allow list"},
		"anonymous shop/orders":                                         {1, ""},
		"spiffe://mesh.example/cluster/east/gateway/east-1 shop/orders": {1, "calls for a program without a sidecar"},
		"web shop/orders":                                               {2, "write namespace/account"},
		"front/web orders":                                              {2, "not a mesh name"},
		"front/web shop/orders GET":                                     {2, "METHOD PATH or neither"},
		"front/web shop/other":                                          {2, "write the port, such as shop/other:80"},
		"front/web shop/other:80":                                       {1, "by default only namespace shop"},
		"front/web orders.shop.west.mesh:80":                            {2, "ask a gateway there"},
	} {
		code, out := run(append(append([]string{"authz"}, strings.Fields(args)...), "--resources", dir)...)
		if code != want.code || !strings.Contains(out, want.says) {
			t.Errorf("%s: %d, want %d with %q:\n%s", args, code, want.code, want.says, out)
		}
	}
	_, out := run("authz", "front/web", "shop/orders", "GET", "/", "-o", "json", "--resources", dir)
	var a status.Authorization
	if err := json.Unmarshal([]byte(out), &a); err != nil || a.Decision != "allowed" || a.Cause != "allow_rule" || a.Caller != "spiffe://mesh.example/cluster/here/ns/front/sa/web" {
		t.Errorf("%v: %s", err, out)
	}
	if code, out := run("authz", "front/web", "shop/orders", "--admin", "127.0.0.1:1"); code != 1 || !strings.Contains(out, "ask 127.0.0.1:1") {
		t.Errorf("%d: %s", code, out)
	}
}
