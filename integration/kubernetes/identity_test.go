package kubernetes

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// tokenBearer is a pod whose only program is a sidecar without a mesh around it: it shows a
// projected token of an audience to the cluster's CA, as one of cluster.
func tokenBearer(name, audience, cluster, fingerprint string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: tokens}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: sidecar
    image: test/isthmus:dev
    imagePullPolicy: Never
    args: [sidecar]
    env:
    - {name: ISTHMUS_GATEWAYS, value: "isthmus-gateway-0.isthmus-gateway.%s.svc"}
    - {name: ISTHMUS_IDENTITY_CA, value: "isthmus-ca.%s.svc:15010"}
    - {name: ISTHMUS_IDENTITY_TOKEN, value: /var/run/secrets/isthmus/token}
    - {name: ISTHMUS_IDENTITY_FINGERPRINT, value: %q}
    - {name: ISTHMUS_IDENTITY_CLUSTER, value: %s}
    - {name: ISTHMUS_STATE, value: /var/lib/isthmus}
    volumeMounts:
    - {name: token, mountPath: /var/run/secrets/isthmus}
    - {name: state, mountPath: /var/lib/isthmus}
  volumes:
  - {name: state, emptyDir: {}}
  - {name: token, projected: {sources: [{serviceAccountToken: {audience: %s, path: token}}]}}
`, name, system, system, fingerprint, cluster, audience)
}

// TestATokenMakesItsPodsAccountAndNothingElse holds, against a real API server, that a
// projected token of our audience makes its account, and one for somebody else nobody; and
// that a pod shows it to no CA but its own cluster's.
func TestATokenMakesItsPodsAccountAndNothingElse(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	c := w.east
	first, err := identity.NewFirstTrust("", nil, filepath.Join(w.pki(), c.Name, "roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	root := first.Roots[0].String()
	pods := map[string]struct{ audience, cluster, says string }{
		"own":     {"isthmus", c.Name, "identity obtained"},
		"vault":   {"vault", c.Name, "this CA takes those for"},
		"another": {"isthmus", "elsewhere", "expected a CA of cluster elsewhere"},
	}
	manifests := []string{"apiVersion: v1\nkind: Namespace\nmetadata: {name: tokens}\n"}
	for name, p := range pods {
		manifests = append(manifests, tokenBearer(name, p.audience, p.cluster, root))
	}
	if err := c.Apply(t.Context(), strings.Join(manifests, "---\n")); err != nil {
		t.Fatal(err)
	}
	for name, p := range pods {
		err := harness.Eventually(func() error {
			log, err := c.PodLog("tokens", name, "sidecar")
			if err == nil && !strings.Contains(log, p.says) {
				err = fmt.Errorf("it does not say %q:\n%s", p.says, log)
			}
			if err == nil && name == "own" && !strings.Contains(log, "/cluster/"+c.Name+"/ns/tokens/sa/default") {
				err = fmt.Errorf("it is somebody else:\n%s", log)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
