package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func TestTheIntermediateInASecretIsWhatPKIClusterWrote(t *testing.T) {
	dir := t.TempDir()
	root, err := identity.NewRoot("mesh.example", identity.DefaultRootTTL)
	if err != nil {
		t.Fatal(err)
	}
	secret := func(cluster string) map[string][]byte {
		a, err := root.NewCluster("west", nil, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, cluster)
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := a.Save(to, false); err != nil {
			t.Fatal(err)
		}
		data := map[string][]byte{}
		for _, key := range []string{"ca.pem", "ca-key.pem", "roots.pem"} {
			if data[key], err = os.ReadFile(filepath.Join(to, "west", key)); err != nil {
				t.Fatal(err)
			}
		}
		return data
	}
	good, other := secret("a"), secret("b")
	if ends, of, err := checkIntermediate(good, time.Now()); err != nil || time.Until(ends) > time.Hour || of != "west" {
		t.Errorf("a good one: %v, %s, %v", ends, of, err)
	}
	for want, edit := range map[string]func(map[string][]byte){
		"has no roots.pem":    func(d map[string][]byte) { delete(d, "roots.pem") },
		"do not fit together": func(d map[string][]byte) { d["ca-key.pem"] = other["ca-key.pem"] },
		"no certificate":      func(d map[string][]byte) { d["roots.pem"] = []byte("roots") },
	} {
		bad := map[string][]byte{"ca.pem": good["ca.pem"], "ca-key.pem": good["ca-key.pem"], "roots.pem": good["roots.pem"]}
		edit(bad)
		if _, _, err := checkIntermediate(bad, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, _, err := checkIntermediate(good, time.Now().Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired one: %v", err)
	}
}

func TestVersionsOfKernelsAndKubeletsAreReadAsTheyAreWritten(t *testing.T) {
	for version, want := range map[string][2]int{
		"6.18.44-fc-v657": {6, 18}, "5.10.0-28-amd64": {5, 10}, "4.19": {4, 19}, "1.37.2": {1, 37}, "1.29.0-gke.1": {1, 29}, "": {}, "dev": {},
	} {
		if major, minor := firstTwo(version); major != want[0] || minor != want[1] {
			t.Errorf("%s: %d.%d", version, major, minor)
		}
	}
}
