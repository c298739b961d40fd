package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// newCA makes cluster east and the configuration of its CA.
func newCA(t *testing.T) (file string, authority *identity.Authority) {
	t.Helper()
	dir := newPKI(t)
	file = filepath.Join(filepath.Dir(dir), "ca.yaml")
	text := "name: ca-1\nauthority: pki/east\nstate: state\nlisten: {grpc: '127.0.0.1:0', admin: '127.0.0.1:0'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	authority, err := identity.OpenAuthority(filepath.Join(dir, "east"))
	if err != nil {
		t.Fatal(err)
	}
	return file, authority
}

func TestATokenIsMadeWithWhatItsCAsConfigurationSays(t *testing.T) {
	file, authority := newCA(t)
	out := filepath.Join(t.TempDir(), "orders.token")
	for _, c := range []struct {
		id  string
		ttl time.Duration
		who []string
	}{
		{"spiffe://mesh.example/cluster/east/ns/shop/sa/orders", 15 * time.Minute, []string{"--workload", "shop/orders"}},
		{"spiffe://mesh.example/cluster/east/ns/shop/sa/backend", time.Hour, []string{"--workload", "shop/orders", "--service-account", "backend", "--ttl", "1h"}},
		{"spiffe://mesh.example/cluster/east/gateway/east-1", 15 * time.Minute, []string{"--gateway", "east-1", "-o", out}},
	} {
		text := mustPKI(t, append([]string{"token", "-c", file}, c.who...)...)
		if strings.Contains(strings.Join(c.who, " "), "-o") {
			if want := "token of " + c.id + " in " + out + ", for CA ca-1, until "; !strings.HasPrefix(text, want) {
				t.Errorf("printed %q, want %q", text, want)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			text = string(b)
		}
		token, err := authority.VerifyToken(text, time.Now())
		if err != nil || token.ID.String() != c.id || token.CA != "ca-1" || token.Expires.Sub(token.Issued) != c.ttl {
			t.Errorf("%+v, %v", token, err)
		}
	}
}

func TestATokenForNobodyIsAMisuse(t *testing.T) {
	file, _ := newCA(t)
	for args, want := range map[string]string{
		"--workload shop/orders": "which CA? write -c ca.yaml",
		"-c " + file:             "for whom? write --workload shop/orders or --gateway west-1",
		"-c " + file + " --workload a/b --gateway c":         "for whom?",
		"-c " + file + " --workload orders":                  "namespace/name",
		"-c " + file + " --gateway West":                     "lower-case",
		"-c " + file + " --gateway w --service-account a":    "a gateway has none",
		"-c " + file + " --workload shop/orders --ttl 2d":    "write 1s to 24h",
		"-c " + file + " --workload shop/orders --ttl 100ms": "write 1s to 24h",
	} {
		_, err := pki(t, append([]string{"token"}, strings.Fields(args)...)...)
		if _, misuse := errors.AsType[usageError](err); !misuse || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestCheckLooksAtACAsIntermediate(t *testing.T) {
	file, _ := newCA(t)
	dir := filepath.Dir(file)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := checkFile(t, dir, string(good)); code != 0 || out != "f.yaml: nothing is wrong with this ca\n" {
		t.Errorf("%d: %s", code, out)
	}
	if err := os.Chmod(filepath.Join(dir, "pki/east/ca-key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := checkFile(t, dir, string(good)); code != 1 || !strings.Contains(out, "f.yaml:2: authority: pki/east/ca-key.pem: everybody may read this private key") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := checkFile(t, dir, "name: ca-1\nauthority: nowhere\nttl: 1s\n"); code != 1 || !strings.Contains(out, "f.yaml:3: ttl: 1s is out of range") {
		t.Errorf("%d: %s", code, out)
	}
}

func TestStatusShowsACA(t *testing.T) {
	ca := &status.CA{
		ID: "spiffe://mesh.example/cluster/east/ca/ca-1", Version: "v1", Ready: true, Certificate: valid(), Intermediate: "sha256:0123456789abcdef", TTL: 86400, TokensUsed: 3,
		Gateways: []status.Followed{{Address: "10.0.0.5:15012", LastError: "refused"}},
	}
	admin := answering(t, func() any { return ca })
	code, out := runStatus("--admin", admin)
	for _, want := range []string{
		"1 CA, it hears of no revocations from gateway 10.0.0.5:15012: refused", "CA spiffe://mesh.example/cluster/east/ca/ca-1",
		"issues with intermediate sha256:0123456789ab, for 24h0m0s at most; 3 used tokens remembered",
	} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("%d: no %q in\n%s", code, want, out)
		}
	}
	ca.Gateways = nil
	if code, out := runStatus("--admin", admin, "-o", "json"); code != 0 || !strings.Contains(out, `"ca": "spiffe://mesh.example/cluster/east/ca/ca-1"`) || !strings.Contains(out, `"ok": true`) {
		t.Errorf("%d: %s", code, out)
	}
}
