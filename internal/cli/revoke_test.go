package cli

import (
	"strings"
	"testing"
)

func TestRevokeTakesAShortNameOnlyOfAClusterThatIsHere(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"init --trust-domain mesh.example", "cluster west"} {
		if code, out := run(append([]string{"pki", "--dir", dir}, strings.Fields(args)...)...); code != 0 {
			t.Fatal(out)
		}
	}
	const other = "spiffe://mesh.example/cluster/atlantis"
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"shop/orders", 2, "for a workload add --cluster"}, // it would be gateway orders of cluster shop
		{"atlantis", 2, "there is no cluster atlantis here: if its directory is elsewhere write " + other},
		{other, 0, "revoked: " + other},
		{"shop/orders --cluster west", 0, "revoked: spiffe://mesh.example/cluster/west/ns/shop/sa/orders"},
		{"west/west-1", 0, "revoked: spiffe://mesh.example/cluster/west/gateway/west-1"},
		{"west", 0, "revoked: sha256:"},
		{"--lift atlantis", 0, "no longer revoked: " + other},
		{"--lift west/west-2", 1, "is not on the list"},
	} {
		code, out := run(append([]string{"pki", "--dir", dir, "revoke"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: %d, want %d with %q:\n%s", c.args, code, c.code, c.says, out)
		}
	}
}
