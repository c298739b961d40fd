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

const (
	nextDir = "next"
	oldDir  = "old"
)

// Directory is a directory of 'isthmus pki', for one user at a time.
type Directory struct {
	path    string
	root    *identity.Authority // root.pem
	next    *identity.Authority // nil: none
	old     *identity.Authority // nil: none
	bundle  *identity.Bundle    // nil: none was made yet
	Created []string            // what the last step has written, for people
}

// Open reads a directory that has the root's key.
func Open(path string) (*Directory, error) {
	d := &Directory{path: path}
	var missing, err error
	d.root, missing = identity.OpenRoot(path)
	if d.next, err = openIfThere(filepath.Join(path, nextDir)); err != nil {
		return nil, err
	}
	if d.old, err = openIfThere(filepath.Join(path, oldDir)); err != nil {
		return nil, err
	}
	switch {
	case missing != nil && d.next != nil && d.old != nil:
		d.root = d.old // it was interrupted while it replaced root.pem and its key
	case missing != nil:
		return nil, missing
	case d.next != nil && d.next.Fingerprint() == d.root.Fingerprint():
		d.next = nil // it was interrupted before it was removed
		if err := os.RemoveAll(filepath.Join(path, nextDir)); err != nil {
			return nil, err
		}
	}
	d.bundle, err = identity.OpenBundle(path)
	return d, err
}

func openIfThere(dir string) (*identity.Authority, error) {
	a, err := identity.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return a, err
}

// Bundle returns the newest bundle; nil: none was made yet.
func (d *Directory) Bundle() *identity.Bundle { return d.bundle }

// TrustDomain returns the trust domain.
func (d *Directory) TrustDomain() string { return d.root.TrustDomain() }

// Cluster returns the certificate of a cluster's intermediate, where it is here.
func (d *Directory) Cluster(name mesh.ClusterName) (*x509.Certificate, bool) {
	c, err := identity.ReadCertificate(filepath.Join(d.path, string(name), "ca.pem"))
	return c, err == nil
}

// Revise makes the next bundle: change is given the newest one. It is signed with
// every root's key that is here, so that whoever trusts any of them takes it.
func (d *Directory) Revise(change func(*identity.Bundle) error) error {
	next := identity.Bundle{TrustDomain: d.root.TrustDomain(), Roots: []*x509.Certificate{d.root.Certificate()}}
	if b := d.bundle; b != nil {
		next = identity.Bundle{TrustDomain: b.TrustDomain, Number: b.Number, Roots: slices.Clone(b.Roots), Retired: slices.Clone(b.Retired), Revoked: slices.Clone(b.Revoked)}
	}
	next.Number++
	next.Made = time.Now().UTC().Truncate(time.Second)
	if err := change(&next); err != nil {
		return err
	}
	var signers []*identity.Authority
	for _, a := range []*identity.Authority{d.root, d.next, d.old} {
		if a != nil {
			signers = append(signers, a)
		}
	}
	b, err := next.Sign(signers...)
	if err != nil {
		return err
	}
	if err := b.Save(d.path); err != nil {
		return err
	}
	d.bundle = b
	d.Created = append(d.Created, fmt.Sprintf("bundle %d in %s", b.Number, filepath.Join(d.path, "bundle.json")))
	return nil
}

// clusters returns the clusters whose authority is in the directory.
func (d *Directory) clusters() ([]mesh.ClusterName, error) {
	entries, err := os.ReadDir(d.path)
	var names []mesh.ClusterName
	for _, e := range entries {
		if _, missing := os.Stat(filepath.Join(d.path, e.Name(), "ca-key.pem")); missing == nil {
			names = append(names, mesh.ClusterName(e.Name()))
		}
	}
	return names, err
}
