package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// bundleFile is the bundle in an identity directory or that of an authority; it may
// be missing.
const bundleFile = "bundle.json"

// maxDomains bounds the trust domains of one mesh: each has a bundle that every
// process holds.
const maxDomains = 16

// keepInterval is the pause before bundles that could not be written are written again.
const keepInterval = 5 * time.Second

// ErrUntrusted is wrapped by what [Source.Accept] says of a bundle that nobody has
// signed who is trusted here.
var ErrUntrusted = errors.New("signed by no root that this process trusts")

// Accept takes a signed bundle, from anybody: it is in force from now on when it is newer
// than the one of its trust domain that is, and signed by a root that is trusted now.
// An older one, and the same one again, is no error. What is in force is on disk when
// Accept returns, see [Source.KeepBundles].
func (s *Source) Accept(raw []byte) (changed bool, err error) {
	b, err := ParseBundle(raw)
	if err != nil {
		return false, err
	}
	s.replacing.Lock()
	defer s.replacing.Unlock()
	return s.acceptLocked(b)
}

func (s *Source) acceptLocked(b *Bundle) (changed bool, err error) {
	m := s.now.Load()
	t, err := m.accept(b)
	if t == nil || err != nil {
		return false, err
	}
	if was := m.trust.domains[b.TrustDomain].bundle; was != nil && b.Number == was.Number {
		s.log().Error("two bundles have one number: make another with the next number", "trust_domain", b.TrustDomain, "bundle", b.Number)
	}
	s.set(m, t)
	s.keepLocked()
	s.log().Info("bundle in force", "trust_domain", b.TrustDomain, "bundle", b.Number, "roots", len(b.Roots), "retired", len(b.Retired), "revoked", len(b.Revoked))
	return true, nil
}

// accept returns what is trusted with a bundle in force; nil: it is not newer than the
// one that is.
func (m *material) accept(b *Bundle) (*trust, error) {
	d := m.trust.domains[b.TrustDomain]
	if d == nil {
		return nil, fmt.Errorf("bundle %d of trust domain %s: it is not ours (%s) and not among trustDomains", b.Number, b.TrustDomain, m.id.TrustDomain)
	}
	if d.bundle != nil && b.compare(d.bundle) <= 0 {
		return nil, nil
	}
	if !b.signedBy(func(f Fingerprint) bool { _, ok := d.signers[f]; return ok }) {
		return nil, fmt.Errorf("bundle %d of trust domain %s: %w: put a root that signed it in roots.pem, if that is right", b.Number, b.TrustDomain, ErrUntrusted)
	}
	return m.trust.with(m.roots, b), nil
}

// acceptOwn is accept for the bundle that came with the material; nil: none did.
func (m *material) acceptOwn(raw []byte) error {
	if raw == nil {
		return nil
	}
	b, err := ParseBundle(raw)
	if err != nil {
		return err
	}
	t, err := m.accept(b)
	if t != nil {
		m.trust = t
	}
	return err
}

// Bundles returns the bundle in force of each trust domain that has one, by name.
func (s *Source) Bundles() []*Bundle {
	var all []*Bundle
	for _, b := range s.now.Load().trust.bundles() {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *Bundle) int { return strings.Compare(a.TrustDomain, b.TrustDomain) })
	return all
}

// WatchBundles calls each with every bundle that is in force and that comes into force,
// until ctx ends.
func (s *Source) WatchBundles(ctx context.Context, each func(*Bundle)) {
	var was []*Bundle
	for {
		past := s.Past()
		now := s.Bundles()
		for _, b := range now {
			if !slices.Contains(was, b) {
				each(b)
			}
		}
		was = now
		select {
		case <-ctx.Done():
			return
		case <-past:
		}
	}
}

// Held returns the number of the bundle in force of every trust domain that is taken; 0:
// there is none yet.
func (s *Source) Held() map[string]uint64 {
	held := map[string]uint64{}
	for td, d := range s.now.Load().trust.domains {
		held[td] = 0
		if d.bundle != nil {
			held[td] = d.bundle.Number
		}
	}
	return held
}

// Takes reports whether a gateway may be part of the mesh: it is not revoked by name, nor
// is its cluster. Of revoked keys it knows nothing.
func (s *Source) Takes(gateway mesh.GatewayID) bool {
	t := s.now.Load().trust
	id := ID{TrustDomain: cmp.Or(t.owner[gateway.Cluster], t.self), Cluster: gateway.Cluster, Gateway: gateway.Name}
	return t.revokes(nil, id, "") == nil
}

// Root returns the root that this process's certificate is under, and whether that is
// the one that it should be under, the last of the bundle in force. Without a
// bundle any is. The fingerprint is zero when the root is not known.
func (s *Source) Root() (root Fingerprint, newest bool) {
	m := s.now.Load()
	if m.root != nil {
		root = FingerprintOf(m.root)
	}
	d := m.trust.domains[m.id.TrustDomain]
	return root, d.bundle == nil || root == d.last
}

// TrustDomains replaces the other trust domains whose members are taken in. It refuses
// a cluster that two claim.
func (s *Source) TrustDomains(domains []Domain) error {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	m := s.now.Load()
	if err := checkDomains(m.id, domains); err != nil {
		return err
	}
	s.set(m, newTrust(m.id.TrustDomain, m.roots, domains, m.trust.bundles()))
	return nil
}

// NewDomain reads what a configuration says of another trust domain: a PEM file with its
// roots or, where there is none, the fingerprint of one.
func NewDomain(name string, clusters []mesh.ClusterName, rootsFile, fingerprint string) (Domain, error) {
	d := Domain{Name: name, Clusters: clusters}
	if td, err := spiffeid.TrustDomainFromString(name); err != nil || td.Name() != name {
		return Domain{}, fmt.Errorf("trust domain %q: use lower-case letters, digits, dots and hyphens, such as other.example", name)
	}
	if rootsFile == "" {
		f, err := ParseFingerprint(fingerprint)
		d.Pins = []Fingerprint{f}
		return d, err
	}
	raw, err := readBounded(rootsFile)
	if err != nil {
		return Domain{}, err
	}
	if d.Roots, err = parseCertificates(raw); err != nil {
		return Domain{}, fmt.Errorf("%s: %w", rootsFile, err)
	}
	return d, nil
}

func checkDomains(self ID, domains []Domain) error {
	if len(domains) >= maxDomains {
		return fmt.Errorf("%d other trust domains, at most %d", len(domains), maxDomains-1)
	}
	owner := map[string]string{string(self.Cluster): self.TrustDomain}
	for _, d := range domains {
		switch {
		case d.Name == self.TrustDomain:
			return fmt.Errorf("trust domain %s is this process's own: its roots are those of its identity", d.Name)
		case len(d.Roots) == 0 && len(d.Pins) == 0:
			return fmt.Errorf("trust domain %s: name a file with its roots, or the fingerprint of one", d.Name)
		case len(d.Clusters) == 0:
			return fmt.Errorf("trust domain %s: name its clusters: nothing of it is accepted otherwise", d.Name)
		}
		for _, c := range d.Clusters {
			if other, taken := owner[string(c)]; taken {
				return fmt.Errorf("cluster %s is said to be of trust domain %s and of %s: a cluster belongs to one", c, other, d.Name)
			}
			owner[string(c)] = d.Name
		}
	}
	return nil
}

// KeepBundles has the bundles in force kept in a file from now on, before Run, and takes those that
// it holds. What cannot be read is left out and logged: it can be learnt again.
func (s *Source) KeepBundles(path string) {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	s.saver = state.NewSaver(state.SaverConfig{
		What: "which bundles are in force", Interval: keepInterval, Log: s.Log,
		Write: func() error { return s.writeBundles(path) },
	})
	b, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var raws []json.RawMessage
	if err == nil {
		err = json.Unmarshal(b, &raws)
	}
	if err != nil {
		s.log().Warn("the bundles on disk are left out", "file", path, "err", err)
		return
	}
	for _, raw := range raws {
		if err := s.restoreLocked(raw); err != nil {
			s.log().Warn("a bundle on disk is left out", "file", path, "err", err)
		}
	}
}

// restoreLocked takes a bundle that was in force before a restart. Its signer may have
// been retired since, and roots.pem be older; it must only be about the same roots.
func (s *Source) restoreLocked(raw []byte) error {
	b, err := ParseBundle(raw)
	if err != nil {
		return err
	}
	m := s.now.Load()
	d := m.trust.domains[b.TrustDomain]
	switch {
	case d == nil:
		return fmt.Errorf("trust domain %s is not configured any more", b.TrustDomain)
	case !d.related(b):
		return fmt.Errorf("bundle %d of trust domain %s has no root in common with roots.pem", b.Number, b.TrustDomain)
	case d.bundle != nil && b.compare(d.bundle) <= 0:
		return nil
	}
	s.set(m, m.trust.with(m.roots, b))
	return nil
}

// keepLocked writes the bundles in force to disk now. What is not written is tried again by
// Run.
func (s *Source) keepLocked() {
	if s.saver == nil {
		return
	}
	s.saver.Changed()
	_ = s.saver.Save() // logged, and KeptErr says it
}

// writeBundles writes the bundles in force to a file.
func (s *Source) writeBundles(path string) error {
	raws := []json.RawMessage{}
	for _, b := range s.Bundles() {
		raws = append(raws, b.signed)
	}
	b, err := json.Marshal(raws)
	if err != nil {
		return err
	}
	return wholefile.Write(path, b, 0o600)
}

// KeptErr returns why the bundles in force are not on disk; nil: they are.
func (s *Source) KeptErr() error {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	if s.saver == nil {
		return nil
	}
	return s.saver.Err()
}
