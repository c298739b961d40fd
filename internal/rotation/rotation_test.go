package rotation_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/rotation"
)

// made makes a directory with one cluster and one gateway.
func made(t *testing.T) (dir, gateway string) {
	t.Helper()
	dir = t.TempDir()
	root, err := identity.NewRoot("mesh.example", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	east, err := root.NewCluster("east", []string{"shop"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c, err := east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	gateway = filepath.Join(dir, "east", "gateways", "east-1")
	for _, save := range []func() error{
		func() error { return root.Save(dir, false) }, func() error { return east.Save(dir, false) }, func() error { return c.Save(gateway, false) },
	} {
		if err := save(); err != nil {
			t.Fatal(err)
		}
	}
	return dir, gateway
}

func open(t *testing.T, dir string) *rotation.Directory {
	t.Helper()
	d, err := rotation.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestARotationIsFourStepsAndTheDirectoryKnowsWhichIsNext(t *testing.T) {
	dir, gateway := made(t)
	before, err := identity.Open(gateway)
	if err != nil {
		t.Fatal(err)
	}
	first := open(t, dir).Root().Fingerprint()
	for _, step := range []rotation.Step{rotation.AddRoot, rotation.Reissue, rotation.Retire, rotation.Complete, rotation.AddRoot} {
		d := open(t, dir) // anew: all that is known lies there
		if due := d.Due(); due != step {
			t.Fatalf("step %d (%s) is due, want %d (%s)", due, due, step, step)
		}
		if err := d.Do(time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := before.Trust().Accept(d.Bundle().Bytes()); err != nil {
			t.Errorf("after step %d a process with the first root does not take the bundle: %v", step, err)
		}
		s, err := identity.Open(gateway)
		if err != nil {
			t.Fatalf("after step %d: %v", step, err)
		}
		if root, _ := s.Trust().OwnRoot(); (root == first) != (step == rotation.AddRoot && d.Bundle().Number == 1) {
			t.Errorf("after step %d the gateway is under root %s", step, root)
		}
		if ns := mustCluster(t, dir).Namespaces(); len(ns) != 1 || ns[0] != "shop" {
			t.Errorf("after step %d the cluster may offer %v", step, ns)
		}
	}
	if s, _ := identity.Open(gateway); s.Self().Founding != before.Self().Founding {
		t.Error("it is another cluster now")
	}
}

// copied copies a root, whose key is for nobody else to read.
func copied(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, "root-key.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustCluster(t *testing.T, dir string) *identity.Authority {
	t.Helper()
	ca, err := identity.OpenCluster(dir, "east")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestAStepThatWasInterruptedIsMadeAgain(t *testing.T) {
	dir, gateway := made(t)
	// The next root was made, and the bundle not written.
	if err := open(t, dir).Do(time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "bundle.json")); err != nil {
		t.Fatal(err)
	}
	if d := open(t, dir); d.Due() != rotation.AddRoot {
		t.Fatalf("%s is due", d.Due())
	} else if err := d.Do(time.Hour); err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "next")
	kept := t.TempDir()
	copied(t, kept, next)
	if err := open(t, dir).Do(time.Hour); err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(filepath.Join(gateway, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	// root.pem was replaced, and next not removed: nothing is made twice.
	copied(t, next, kept)
	if d := open(t, dir); d.Due() != rotation.Retire {
		t.Errorf("%s is due", d.Due())
	}
	// Of root.pem and its key one was replaced.
	copied(t, next, kept)
	old, err := os.ReadFile(filepath.Join(dir, "old", "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	if d.Due() != rotation.Reissue {
		t.Fatalf("%s is due", d.Due())
	}
	if err := d.Do(time.Hour); err != nil {
		t.Fatal(err)
	}
	if d := open(t, dir); d.Due() != rotation.Retire {
		t.Errorf("%s is due", d.Due())
	}
	now, err := os.ReadFile(filepath.Join(gateway, "cert.pem"))
	if err != nil || string(now) != string(was) {
		t.Errorf("a certificate that was under the new root was made again: %v", err)
	}
}
