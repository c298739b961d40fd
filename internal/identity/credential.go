package identity

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// Credential is an issued certificate with its key and the roots to trust:
// what a process needs to be somebody.
type Credential struct {
	id    ID
	chain []*x509.Certificate // leaf first
	key   crypto.Signer
	roots []*x509.Certificate
	// bundle came with the authority that issued it, if it is that authority's own
	// process; nil: none did.
	bundle []byte
}

// ID returns who the credential makes its holder.
func (c *Credential) ID() ID { return c.id }

// NotAfter returns when the certificate expires.
func (c *Credential) NotAfter() time.Time { return c.chain[0].NotAfter }

// Source returns a source that holds the credential in memory.
func (c *Credential) Source() (*Source, error) {
	return New(c.Material(), Origin{})
}

// Material returns the credential for [New] or [Source.Replace].
func (c *Credential) Material() Material {
	return Material{Chain: c.chain, Key: c.key, Roots: c.roots, Bundle: c.bundle}
}

// Save writes cert.pem, key.pem and roots.pem for [Open] to dir, which it makes
// when it does not exist. Without force it refuses to overwrite.
func (c *Credential) Save(dir string, force bool) error {
	key, err := encodeKey(c.key)
	if err != nil {
		return err
	}
	return saveAll(dir, force, []file{
		{rootsFile, encodeCertificates(c.roots), 0o644},
		{keyFile, key, 0o600},
		{certFile, encodeCertificates(c.chain), 0o644},
	})
}

// The files of an authority. The root's are in the directory itself, a
// cluster's in a directory of the cluster's name, which holds all that is
// needed to issue for the cluster and can be moved to where that is done.
const (
	rootFile       = "root.pem"
	rootKeyFile    = "root-key.pem"
	clusterFile    = "ca.pem"
	clusterKeyFile = "ca-key.pem"
)

// Save writes the authority below dir: root.pem and root-key.pem, or for a
// cluster CLUSTER/ca.pem, ca-key.pem and roots.pem. Without force it refuses to
// overwrite.
func (a *Authority) Save(dir string, force bool) error {
	key, err := encodeKey(a.key)
	if err != nil {
		return err
	}
	own := encodeCertificates([]*x509.Certificate{a.cert})
	if a.cluster == "" {
		return saveAll(dir, force, []file{{rootKeyFile, key, 0o600}, {rootFile, own, 0o644}})
	}
	return saveAll(filepath.Join(dir, string(a.cluster)), force, []file{
		{rootsFile, encodeCertificates(a.roots), 0o644},
		{clusterKeyFile, key, 0o600},
		{clusterFile, own, 0o644},
	})
}

// OpenRoot reads the root that [Authority.Save] wrote to dir.
func OpenRoot(dir string) (*Authority, error) {
	return openAuthority(filepath.Join(dir, rootFile), filepath.Join(dir, rootKeyFile), "", "make it with 'isthmus pki init'")
}

// OpenCluster reads the intermediate of a cluster that [Authority.Save] wrote
// below dir.
func OpenCluster(dir string, cluster mesh.ClusterName) (*Authority, error) {
	if err := mesh.CheckLabel(string(cluster)); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	sub := filepath.Join(dir, string(cluster))
	a, err := openCluster(sub, fmt.Sprintf("make it with 'isthmus pki cluster %s'", cluster))
	if err != nil {
		return nil, err
	}
	if a.cluster != cluster {
		return nil, fmt.Errorf("%s: is the CA of %s, not of cluster %s", filepath.Join(sub, clusterFile), a.cert.URIs[0], cluster)
	}
	return a, nil
}

// OpenAuthority reads a cluster's intermediate from its own directory: the one that
// 'isthmus pki cluster' names after the cluster, wherever it was moved to.
func OpenAuthority(dir string) (*Authority, error) {
	const how = "make them with 'isthmus pki cluster', and name the directory of the cluster"
	a, err := openCluster(dir, how)
	if err != nil {
		return nil, err
	}
	if a.cluster == "" {
		return nil, fmt.Errorf("%s: is the root of %s, whose key must stay offline: %s", filepath.Join(dir, clusterFile), a.trustDomain, how)
	}
	return a, nil
}

// openCluster reads ca.pem, ca-key.pem and roots.pem; how says how to make them.
func openCluster(dir, how string) (*Authority, error) {
	a, err := openAuthority(filepath.Join(dir, clusterFile), filepath.Join(dir, clusterKeyFile), filepath.Join(dir, rootsFile), how)
	if err != nil {
		return nil, err
	}
	if a.bundle, err = readBundle(dir); err != nil {
		return nil, err
	}
	return a, nil
}

// openAuthority reads one authority; rootsPath is empty for a root.
func openAuthority(certPath, keyPath, rootsPath, how string) (*Authority, error) {
	orHow := func(read func(string) ([]byte, error)) func(string) ([]byte, error) {
		return func(path string) ([]byte, error) {
			b, err := read(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%w: %s", err, how)
			}
			return b, err
		}
	}
	certs, err := readPEM(orHow(readBounded), certPath, parseCertificates)
	if err != nil {
		return nil, err
	}
	key, err := readPEM(orHow(readKey), keyPath, parseKey)
	if err != nil {
		return nil, err
	}
	var roots []*x509.Certificate
	if rootsPath != "" {
		if roots, err = readPEM(orHow(readBounded), rootsPath, parseCertificates); err != nil {
			return nil, err
		}
	}
	a, err := authorityOf(certs[0], key, roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certPath, err)
	}
	return a, nil
}

func readPEM[T any](read func(string) ([]byte, error), path string, parse func([]byte) (T, error)) (v T, err error) {
	b, err := read(path)
	if err != nil {
		return v, err
	}
	if v, err = parse(b); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// file is one file to be written.
type file struct {
	name string
	data []byte
	mode fs.FileMode
}

// saveAll writes files to dir in their order, each whole or not at all. A
// running process that watches dir loads them when all are there.
func saveAll(dir string, force bool, files []file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if !force {
		var there []string
		for _, f := range files {
			if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
				there = append(there, f.name)
			}
		}
		if len(there) > 0 {
			return fmt.Errorf("%s already holds %s: write --force to replace, or choose another directory", dir, strings.Join(there, " and "))
		}
	}
	for _, f := range files {
		if err := wholefile.Write(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

func encodeCertificates(certs []*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// OpenBundle reads the bundle that [Bundle.Save] wrote to dir; nil: there is none.
func OpenBundle(dir string) (*Bundle, error) {
	raw, err := readBundle(dir)
	if raw == nil || err != nil {
		return nil, err
	}
	b, err := ParseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, bundleFile), err)
	}
	return b, nil
}

// Save writes bundle.json to dir.
func (b *Bundle) Save(dir string) error {
	return wholefile.Write(filepath.Join(dir, bundleFile), b.signed, 0o644)
}

// ReadCertificate reads the first certificate of a PEM file.
func ReadCertificate(path string) (*x509.Certificate, error) {
	certs, err := readPEM(readBounded, path, parseCertificates)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}
