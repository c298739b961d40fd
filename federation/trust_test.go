package federation

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// bundle makes a bundle of the world's trust domain, signed by its root.
func (w *world) bundle(number uint64, revoked ...string) *identity.Bundle {
	w.t.Helper()
	b := identity.Bundle{TrustDomain: "mesh.example", Number: number, Roots: []*x509.Certificate{w.mesh.Root.Certificate()}}
	for _, what := range revoked {
		b.Revoked = append(b.Revoked, identity.Revocation{What: what, At: time.Now()})
	}
	signed, err := b.Sign(w.mesh.Root)
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

// give has a gateway take a bundle.
func (n *node) give(b *identity.Bundle) {
	n.t.Helper()
	if changed, err := n.cfg.Identity.Trust().Accept(b.Bytes()); err != nil || !changed {
		n.t.Fatalf("%s: bundle %d: changed %t, %v", n.id, b.Number, changed, err)
	}
}

func (n *node) holds() uint64 { return n.cfg.Identity.Trust().Held()["mesh.example"] }

// within waits in virtual time until ok holds, and says how long it took.
func within(t *testing.T, what string, most time.Duration, ok func() bool) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		took := time.Since(begun)
		if ok() {
			t.Logf("%s after %v", what, took)
			return
		}
		if took > most {
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}

func TestABundleThatOneGatewayGetsIsEverywhereAtOnceAndAllKnowIt(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		west.give(w.bundle(3))
		within(t, "everybody holds it", time.Second, func() bool { return east.holds() == 3 && north.holds() == 3 })
		within(t, "and east knows", trustInterval+time.Second, func() bool {
			r := east.TrustReports()
			return r[west.id].Held["mesh.example"].Number == 3 && r[north.id].Held["mesh.example"].Number == 3
		})
	})
}

func TestWhoWasAwayGetsTheNewestBundleWhenItIsBack(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		w.net.partition(east, west, true)
		w.net.partition(north, west, true)
		down := func(v *View) bool { return !gatewayOf(v, west.id).Tunnel.Up }
		east.await("west is away", 30*time.Second, down)
		north.await("west is away", 30*time.Second, down)
		east.give(w.bundle(1))
		east.give(w.bundle(2, "spiffe://mesh.example/cluster/south"))
		time.Sleep(time.Second)
		if west.holds() != 0 || north.holds() != 2 {
			t.Errorf("west holds %d, north %d", west.holds(), north.holds())
		}
		w.net.partition(east, west, false)
		w.net.partition(north, west, false)
		within(t, "west holds it", 40*time.Second, func() bool { return west.holds() == 2 })
	})
}

func TestARevokedClusterIsCutOffEverywhereWithItsCatalog(t *testing.T) {
	for what, entry := range map[string]func(w *world) string{
		"by name":          func(*world) string { return "spiffe://mesh.example/cluster/west" },
		"by its authority": func(w *world) string { return w.mesh.Cluster("west").Fingerprint().String() },
		"by one gateway":   func(*world) string { return "spiffe://mesh.example/cluster/west/gateway/west-1" },
	} {
		t.Run(what, func(t *testing.T) {
			three(t, func(t *testing.T, w *world, east, west, north *node) {
				north.give(w.bundle(1, entry(w)))
				for _, n := range []*node{east, north} {
					within(t, n.id.String()+" has neither tunnel nor catalog of it", 2*time.Second, func() bool {
						v, _ := n.View()
						g := gatewayOf(v, west.id)
						return originOf(v, west.id) == nil && (g == nil || !g.Tunnel.Up)
					})
				}
				time.Sleep(time.Minute) // west tries, and gossip tells of it
				for n, other := range map[*node]mesh.ClusterName{east: "north", north: "east"} {
					v, _ := n.View()
					if g := gatewayOf(v, west.id); originOf(v, west.id) != nil || g != nil && g.Tunnel.Up {
						t.Errorf("%s: it is back", n.id)
					}
					if !offers("shop/orders", other)(v) {
						t.Errorf("%s: shop/orders is offered by others than %s", n.id, other)
					}
				}
				if err := west.cfg.Identity.Err(); err == nil || !strings.Contains(err.Error(), "this identity was revoked (bundle 1)") {
					t.Errorf("nobody told it: %v", err)
				}
				north.give(w.bundle(2)) // lifted, it comes back by itself
				for _, n := range []*node{east, north} {
					n.await("west is back", 2*time.Minute, func(v *View) bool { return originOf(v, west.id) != nil && sees(west)(v) })
				}
			})
		})
	}
}

func TestAClusterThatIsRevokedForAMomentIsBackAsItWas(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		north.give(w.bundle(1, "spiffe://mesh.example/cluster/west"))
		within(t, "it is revoked", time.Second, func() bool { return east.holds() == 1 && west.holds() == 1 })
		north.give(w.bundle(2))
		for _, n := range []*node{east, north} {
			n.await("west is back", time.Minute, func(v *View) bool { return originOf(v, west.id) != nil && sees(west)(v) })
		}
	})
}

func TestBundlesOfAnotherTrustDomainAreFollowed(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		other := &world{t: w.t, mesh: identitytest.New(w.t, "other.example"), net: w.net}
		take := func(name string, of *world, cluster mesh.ClusterName, s *identity.Source) *identity.Source {
			err := s.Trust().TrustDomains([]identity.Domain{{Name: name, Pins: []identity.Fingerprint{of.mesh.Root.Fingerprint()}, Clusters: []mesh.ClusterName{cluster}}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		east := w.start(plan{name: "east/east-1", addr: eastAddr, identity: take("other.example", other, "west", w.mesh.Gateway("east", "east-1"))})
		west := other.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}, identity: take("mesh.example", w, "east", other.mesh.Gateway("west", "west-1"))})
		east.Own().Publish(nil)
		west.Own().Publish(nil)
		east.await("west", 10*time.Second, sees(west))
		within(t, "catalogs of the other trust domain", 10*time.Second, func() bool {
			v, _ := east.View()
			return originOf(v, west.id) != nil
		})
		theirs := identity.Bundle{TrustDomain: "other.example", Number: 5, Roots: []*x509.Certificate{other.mesh.Root.Certificate()}}
		signed, err := theirs.Sign(other.mesh.Root)
		if err != nil {
			t.Fatal(err)
		}
		west.give(signed)
		within(t, "east follows it", time.Second, func() bool { return east.cfg.Identity.Trust().Held()["other.example"] == 5 })
		east.give(w.bundle(9))
		within(t, "and west ours", time.Second, func() bool { return west.holds() == 9 })
	})
}

func FuzzATrustMessageOfAnotherGatewayIsReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"report":{"held":{"mesh.example":{"number":3,"digest":"AAECAwQFBgc="}},"sidecars":1,"behind":[{"id":"spiffe://a","lacks":{"mesh.example":2}}]},"bundles":[{"bundle":"e30=","signatures":[]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeTrust(bytes.NewReader(b), false)
		if err == nil && (len(m.Bundles) > maxTrustDomains || len(m.Report.Behind) > maxBehind) {
			t.Errorf("%d bundles, %d sidecars", len(m.Bundles), len(m.Report.Behind))
		}
	})
}

// TestWhatARevokedCertificateSignedIsSignedAnewByTheOneThatTookItsPlace has both end at the
// same moment, as those do that are issued together or outlive their intermediate.
func TestWhatARevokedCertificateSignedIsSignedAnewByTheOneThatTookItsPlace(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, _ *node) {
		west.Own().Publish([]mesh.Export{serving("west", "shop/ledger", 2)})
		east.await("ledger", 10*time.Second, offers("shop/ledger", "west"))
		was, ends := west.cfg.Identity.Chain(), west.cfg.Identity.NotAfter()
		c, err := w.mesh.Cluster("west").Issue(identity.Request{ID: identity.ID{Gateway: west.id.Name}, TTL: time.Until(ends)})
		if err != nil {
			t.Fatal(err)
		}
		if err := west.cfg.Identity.Replace(c.Material()); err != nil {
			t.Fatal(err)
		}
		if now := west.cfg.Identity; !now.NotAfter().Equal(ends) || bytes.Equal(now.Chain()[0], was[0]) {
			t.Fatalf("the new certificate ends at %s, the old one at %s", now.NotAfter(), ends)
		}
		leaf, err := x509.ParseCertificate(was[0])
		if err != nil {
			t.Fatal(err)
		}
		east.give(w.bundle(1, identity.FingerprintOf(leaf).String()))
		time.Sleep(time.Minute) // it is cut off, and comes back
		if _, err := east.cfg.Identity.Trust().Verify(nil, identity.Signature{Chain: was}); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Fatalf("the old certificate: %v", err)
		}
		v, _ := east.View()
		if g := gatewayOf(v, west.id); !g.Tunnel.Up || !g.Alive || !offers("shop/ledger", "west")(v) {
			t.Errorf("tunnel %t, gossip %t, %d origins", g.Tunnel.Up, g.Alive, len(v.Origins))
		}
	})
}
