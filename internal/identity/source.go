package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Source is the identity of this process: its certificate and key, and the
// roots that it trusts. All methods may be called concurrently.
type Source struct {
	// Log is told of reloads and of an approaching expiry. Nil: silent.
	// Set it before Run.
	Log *slog.Logger

	dir     string // empty: in memory, never changes
	now     state.Store[*material]
	fault   state.Store[string] // of the last reload that Run did; empty: it was good
	loading sync.Mutex          // held by Reload
	metrics metrics
}

// material is one consistent set of certificate, key and roots. It never
// changes after it was made.
type material struct {
	id       ID
	tls      *tls.Certificate // with Leaf
	key      crypto.Signer
	roots    *x509.CertPool
	ends     time.Time // when the first certificate of its own chain expires
	founding Founding
	raw      string // the files' content, to see a change
}

// Open reads cert.pem, key.pem and roots.pem from dir. Its error names the file
// that is wrong and the command that makes a right one.
func Open(dir string) (*Source, error) {
	m, err := load(dir)
	if err != nil {
		return nil, err
	}
	s := &Source{dir: dir, metrics: newMetrics()}
	s.now.Set(m)
	return s, nil
}

// ID returns who this process is. It never changes: files that say otherwise
// are not loaded.
func (s *Source) ID() ID { return s.now.Load().id }

// FilesError returns why the files that Run follows are not those in use, or "".
func (s *Source) FilesError() string { return s.fault.Load() }

// NotAfter returns when the current certificate, or the first of its
// intermediates, expires. A later certificate may replace it before.
func (s *Source) NotAfter() time.Time { return s.now.Load().ends }

// Err returns an [ExpiredError] when the certificate in use has expired, so that
// no peer accepts it, and nil otherwise.
func (s *Source) Err() error { return s.now.Load().expired(time.Now()) }

// NotBefore is when the certificate began.
func (s *Source) NotBefore() time.Time { return s.now.Load().tls.Leaf.NotBefore }

// Past returns a channel that closes when the certificate or the roots in use
// are replaced: then who was trusted before has to be looked at again, with
// [Source.Trusts]. It never closes for a source in memory.
func (s *Source) Past() <-chan struct{} {
	_, past := s.now.Snapshot()
	return past
}

// ExpiredError says that this process's own certificate has expired: its peers
// accept no connection from it. They can only answer with a TLS alert, so this
// end says why.
type ExpiredError struct {
	ID       ID
	NotAfter time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("this process's own certificate (%s) expired at %s: issue a new one with 'isthmus pki', or check the clock", e.ID, stamp(e.NotAfter))
}

// expired returns an [ExpiredError] when m is not valid any more.
func (m *material) expired(now time.Time) error {
	if !now.After(m.ends) {
		return nil
	}
	return &ExpiredError{ID: m.id, NotAfter: m.ends}
}

// newMaterial checks that the parts belong together and are good at this
// moment, as a peer will.
func newMaterial(chain []*x509.Certificate, key crypto.Signer, roots []*x509.Certificate) (*material, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	leaf := chain[0]
	id, err := IDOf(leaf)
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("the key is not that of certificate %s", id)
	}
	m := &material{id: id, tls: &tls.Certificate{PrivateKey: key, Leaf: leaf}, key: key, roots: x509.NewCertPool(), ends: leaf.NotAfter}
	for _, c := range chain {
		m.tls.Certificate = append(m.tls.Certificate, c.Raw)
		if c.NotAfter.Before(m.ends) {
			m.ends = c.NotAfter
		}
	}
	for _, r := range roots {
		m.roots.AddCert(r)
	}
	now := time.Now()
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := verify(chain, id.TrustDomain, m.roots, usage, now); err != nil {
			return nil, err
		}
	}
	m.founding = founding(chain, m.roots)
	return m, nil
}
