package rotation

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Step is one step of the rotation of a root.
type Step int

// The steps, in their order.
const (
	AddRoot  Step = iota + 1 // make another root, and have it trusted
	Reissue                  // put intermediates and leaves under it
	Retire                   // trust the old one no more, but for open connections
	Complete                 // throw the old one's key away
)

// maxRetired is how many retired roots a bundle remembers: whoever was away for longer
// needs new roots.pem.
const maxRetired = 8

// String says what the step does.
func (s Step) String() string {
	return [...]string{"", "make a new root, which is trusted beside the old one", "make intermediates and leaves under the new root",
		"retire the old root", "remove the old root's key"}[s]
}

// Needs says what must hold everywhere before the step is made: that everybody has the
// newest bundle, and that nobody's certificate is under another root than its last.
func (s Step) Needs() (bundle, root bool) { return s != AddRoot, s == Retire }

// Due returns the step that comes next.
func (d *Directory) Due() Step {
	switch {
	case d.old == nil && d.next == nil:
		return AddRoot
	case d.next != nil:
		if d.bundle == nil || !d.bundle.Has(d.next.Fingerprint()) {
			return AddRoot // it was interrupted
		}
		return Reissue
	case d.bundle != nil && d.bundle.Has(d.old.Fingerprint()):
		return Retire
	}
	return Complete
}

// Rotated reports whether a rotation was completed here and none has begun since.
func (d *Directory) Rotated() bool {
	return d.old == nil && d.next == nil && d.bundle != nil && len(d.bundle.Retired) > 0
}

// Do makes the step that is due. It may be called again after a crash.
func (d *Directory) Do(rootTTL time.Duration) error {
	d.Created = nil
	switch d.Due() {
	case AddRoot:
		return d.addRoot(rootTTL)
	case Reissue:
		return d.reissue()
	case Retire:
		return d.Revise(func(b *identity.Bundle) error {
			b.Roots = without(b.Roots, d.old.Fingerprint())
			b.Retired = append(without(b.Retired, d.old.Fingerprint()), d.old.Certificate())
			b.Retired = b.Retired[max(0, len(b.Retired)-maxRetired):]
			return nil
		})
	}
	d.Created = append(d.Created, "removed the key of the old root, "+d.old.Fingerprint().String())
	d.old = nil
	return os.RemoveAll(filepath.Join(d.path, oldDir))
}

func without(certs []*x509.Certificate, f identity.Fingerprint) []*x509.Certificate {
	return slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return identity.FingerprintOf(c) == f })
}

func (d *Directory) addRoot(ttl time.Duration) error {
	if d.next == nil {
		next, err := identity.NewRoot(d.root.TrustDomain(), ttl)
		if err != nil {
			return err
		}
		dir := filepath.Join(d.path, nextDir)
		if err := next.Save(dir, true); err != nil {
			return err
		}
		d.next = next
		d.Created = append(d.Created, fmt.Sprintf("root %s in %s", next.Fingerprint(), dir))
	}
	return d.Revise(func(b *identity.Bundle) error {
		b.Roots = append(without(b.Roots, d.next.Fingerprint()), d.next.Certificate())
		return nil
	})
}

// reissue makes the intermediates and leaves that are here under the next root, and
// makes that the root.
func (d *Directory) reissue() error {
	both := d.next.Trusting([]*x509.Certificate{d.root.Certificate(), d.next.Certificate()})
	names, err := d.clusters()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.RenewCluster(both, name); err != nil {
			return err
		}
	}
	// The old root goes first: after a crash in between there is no root.pem, and what is
	// to be done is said. Renaming both directories' files is not atomic, each is.
	old := filepath.Join(d.path, oldDir)
	if err := d.root.Save(old, true); err != nil {
		return err
	}
	if err := d.next.Save(d.path, true); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(d.path, nextDir)); err != nil {
		return err
	}
	d.root, d.old, d.next = d.next, d.root, nil
	return nil
}

// Root returns what signs now.
func (d *Directory) Root() *identity.Authority { return d.root }

// RenewCluster makes another intermediate of a cluster under root, and the leaves that
// are below it here, unless they are under root already.
func (d *Directory) RenewCluster(root *identity.Authority, name mesh.ClusterName) error {
	was, err := identity.OpenCluster(d.path, name)
	if err != nil {
		return err
	}
	ca := was
	if was.Certificate().CheckSignatureFrom(root.Certificate()) != nil || root == d.root {
		c := was.Certificate()
		ca, err = root.RenewCluster(was, was.Namespaces(), c.NotAfter.Sub(c.NotBefore))
		if err != nil {
			return err
		}
		if err := ca.Save(d.path, true); err != nil {
			return err
		}
		d.Created = append(d.Created, fmt.Sprintf("intermediate of cluster %s in %s", name, filepath.Join(d.path, string(name))))
	}
	return d.renewLeaves(ca, filepath.Join(d.path, string(name)))
}

// renewLeaves makes the leaves below a cluster's directory anew.
func (d *Directory) renewLeaves(ca *identity.Authority, dir string) error {
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() != "cert.pem" {
			return err
		}
		leaf, err := identity.ReadCertificate(path)
		if err != nil {
			return err
		}
		if leaf.CheckSignatureFrom(ca.Certificate()) == nil {
			return nil
		}
		id, err := identity.IDOf(leaf)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		c, err := ca.Issue(identity.Request{ID: id, DNSNames: leaf.DNSNames, Istio: len(leaf.URIs) > 1, TTL: leaf.NotAfter.Sub(leaf.NotBefore)})
		if err != nil {
			return err
		}
		n++
		return c.Save(filepath.Dir(path), true)
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if n > 0 {
		d.Created = append(d.Created, fmt.Sprintf("%d certificates below %s", n, dir))
	}
	return err
}
