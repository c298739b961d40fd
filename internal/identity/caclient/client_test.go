package caclient

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// become makes one attempt that must succeed.
func become(t *testing.T, c *Client) *identity.Source {
	t.Helper()
	s, err := c.Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.ID().String(); got != "spiffe://mesh.example/cluster/west/ns/shop/sa/orders" {
		t.Fatalf("became %s", got)
	}
	return s
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one with %q", err, part)
		}
	}
}

// run runs s until the returned function is called.
func run(t *testing.T, s *identity.Source) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestATokenMakesSomebodyAndARestartNeedsNeitherTokenNorCA(t *testing.T) {
	w := newWorld(t)
	ca := w.ca("ca:15010")
	w.token(orders)
	first := become(t, w.client("ca:15010"))
	if got := ca.asked(); got != "token orders" {
		t.Errorf("the CA was asked %q", got)
	}
	info, err := os.Stat(w.path("identity.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("what is kept: %v, %v", info, err)
	}
	if err := os.Remove(w.path("token")); err != nil {
		t.Fatal(err)
	}
	again := become(t, w.client("gone:15010"))
	if !again.NotAfter().Equal(first.NotAfter()) {
		t.Errorf("after a restart it is valid until %s, before until %s", again.NotAfter(), first.NotAfter())
	}
}

func TestAnAnswerThatIsLostCostsNoToken(t *testing.T) {
	w := newWorld(t)
	ca := w.ca("ca:15010")
	w.token(orders)
	ca.change(func(ca *fakeCA) {
		ca.fault = func() error { return status.Error(codes.Unavailable, "the answer is lost") }
	})
	c := w.client("ca:15010")
	_, err := c.Source(t.Context())
	wantError(t, err, "CA ca:15010: the answer is lost")
	_, err = w.client("ca:15010").Source(t.Context()) // after a crash
	wantError(t, err, "the answer is lost")
	ca.change(func(ca *fakeCA) { ca.fault = nil })
	become(t, c)
	become(t, w.client("ca:15010"))
}

func TestATokenThatIsUsedUpIsAnErrorThatNamesTheCommand(t *testing.T) {
	w := newWorld(t)
	w.ca("ca:15010")
	w.token(orders)
	become(t, w.client("ca:15010"))
	if err := os.Remove(w.path("identity.pem")); err != nil { // the state is lost
		t.Fatal(err)
	}
	c := w.client("ca:15010")
	_, err := c.Source(t.Context())
	wantError(t, err, "used up", "isthmus pki token --workload shop/orders", w.path("token"))
	w.token(orders)
	become(t, c)
}

func TestWithoutATokenOrWithABadOneTheErrorSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	c := w.client("ca:15010")
	_, err := c.Source(t.Context())
	wantError(t, err, "token", "no such file", "isthmus pki token")
	if err := os.WriteFile(w.path("token"), []byte("eyJhbGciOi"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = c.Source(t.Context())
	wantError(t, err, w.path("token"), "isthmus pki token")
	w.token(orders)
	c.cfg.Accept = func(identity.ID) error { return errors.New("this is somebody else") }
	_, err = c.Source(t.Context())
	wantError(t, err, "this is somebody else")
	if _, err := c.Check(); err == nil {
		t.Error("a check finds nothing wrong with it")
	}
}

func TestATokenForAnotherIdentityThanThatOnDiskCounts(t *testing.T) {
	w := newWorld(t)
	w.ca("ca:15010")
	w.token(orders)
	become(t, w.client("ca:15010"))
	w.token(identity.ID{Namespace: "shop", ServiceAccount: "cart"})
	s, err := w.client("ca:15010").Source(t.Context())
	if err != nil || s.ID().ServiceAccount != "cart" {
		t.Errorf("became %v, %v", s, err)
	}
}

func TestWhoIsNotTheClustersCAIsShownNoToken(t *testing.T) {
	w := newWorld(t)
	posing := w.serve("ca:15010", w.gateway("west-1"))
	w.token(orders)
	_, err := w.client("ca:15010").Source(t.Context())
	wantError(t, err, "ca:15010")
	stranger := newWorld(t).ca("ca:15010") // another root
	w.cas["ca:15010"] = stranger
	_, err = w.client("ca:15010").Source(t.Context())
	wantError(t, err, "ca:15010")
	if got := posing.asked() + stranger.asked(); got != "" {
		t.Errorf("asked was %q", got)
	}
}

func TestEveryAddressIsAskedAndTheOneThatAnsweredFirstNextTime(t *testing.T) {
	w := newWorld(t)
	first, second := w.ca("a:15010"), w.ca("b:15010")
	first.change(func(ca *fakeCA) {
		ca.fault = func() error { return status.Error(codes.FailedPrecondition, "the token is for another CA") }
	})
	w.token(orders)
	c := w.client("gone:15010", "a:15010", "b:15010")
	s := become(t, c)
	if first.asked() != "token orders" || second.asked() != "token orders" {
		t.Errorf("asked were %q and %q", first.asked(), second.asked())
	}
	if _, err := c.renew(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := second.asked(); got != "token orders, certificate orders" {
		t.Errorf("the one that answered was asked %q", got)
	}
	if got := first.asked(); got != "token orders" {
		t.Errorf("the one that did not was asked %q", got)
	}
}

func TestAnAnswerForAnotherIdentityOrKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	ca := w.ca("ca:15010")
	w.token(orders)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := w.authority.Certify(identity.Request{ID: orders}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ca.change(func(ca *fakeCA) { ca.chain = texts(chain) })
	_, err = w.client("ca:15010").Source(t.Context())
	wantError(t, err, "the key is not that")
	ca.change(func(ca *fakeCA) { ca.chain, ca.issues = nil, &identity.ID{Namespace: "shop", ServiceAccount: "cart"} })
	_, err = w.client("ca:15010").Source(t.Context())
	wantError(t, err, "asked was for")
	ca.change(func(ca *fakeCA) { ca.chain, ca.issues = []string{"nothing"}, nil })
	_, err = w.client("ca:15010").Source(t.Context())
	wantError(t, err, "holds no certificate")
	ca.change(func(ca *fakeCA) { ca.chain = nil })
	become(t, w.client("ca:15010"))
}

func TestACertificateIsRenewedAtHalfOfItsLifeUnderAnotherKeyAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := w.ca("ca:15010")
		w.token(orders)
		s := become(t, w.client("ca:15010"))
		first := kept(t, w)
		defer run(t, s)()
		began := s.NotAfter()
		time.Sleep(23 * time.Minute)
		if got := ca.asked(); got != "token orders" {
			t.Errorf("early, the CA was asked %q", got)
		}
		time.Sleep(8 * time.Minute)
		if got := ca.asked(); got != "token orders, certificate orders" {
			t.Errorf("after half of the life the CA was asked %q", got)
		}
		if late := s.NotAfter().Sub(began); late < 20*time.Minute {
			t.Errorf("the renewed certificate is valid %s longer", late)
		}
		second := kept(t, w)
		if string(first.RawSubjectPublicKeyInfo) == string(second.RawSubjectPublicKeyInfo) {
			t.Error("the key is the same")
		}
		if !second.NotAfter.Equal(s.NotAfter()) {
			t.Errorf("kept is one until %s, in use until %s", second.NotAfter, s.NotAfter())
		}
		time.Sleep(10 * time.Hour)
		if err := s.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestANewRootIsAReasonToRenewSoonUntilTheCAIsUnderIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := w.ca("ca:15010")
		ca.change(func(ca *fakeCA) { ca.ttl = 24 * time.Hour })
		w.token(orders)
		s := become(t, w.client("ca:15010"))
		defer run(t, s)()
		time.Sleep(time.Hour)
		if got := ca.asked(); got != "token orders" {
			t.Fatalf("before, the CA was asked %q", got)
		}
		next, err := identity.NewRoot("mesh.example", 10*365*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		both, err := identity.Bundle{Number: 1, TrustDomain: "mesh.example", Made: time.Now(),
			Roots: []*x509.Certificate{w.mesh.Root.Certificate(), next.Certificate()}}.Sign(w.mesh.Root, next)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Trust().Accept(both.Bytes()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(maxUnderOld + time.Second)
		if got := ca.asked(); !strings.HasPrefix(got, "token orders, certificate orders") {
			t.Errorf("with a new root trusted the CA was asked %q", got)
		}
		under, err := next.NewCluster("west", nil, 365*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ca.change(func(ca *fakeCA) { ca.authority = under.Trusting(both.Roots) })
		time.Sleep(maxUnderOld + 2*time.Second)
		if root, newest := s.Trust().OwnRoot(); !newest {
			t.Errorf("the CA is under the new root, and the certificate still under %s", root)
		}
		before := ca.asked()
		time.Sleep(time.Hour)
		if got := ca.asked(); got != before {
			t.Errorf("under the new root the CA was asked again: %q", got)
		}
	})
}

func TestACAThatIsAwayIsAskedUntilItIsBackAndTheSourceSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := w.ca("ca:15010")
		w.token(orders)
		s := become(t, w.client("ca:15010"))
		defer run(t, s)()
		ca.change(func(ca *fakeCA) { ca.fault = func() error { return status.Error(codes.Unavailable, "away") } })
		time.Sleep(40 * time.Minute)
		if got := s.Fault(); !strings.Contains(got, "CA ca:15010: away") {
			t.Errorf("the fault is %q", got)
		}
		ca.change(func(ca *fakeCA) { ca.fault = nil })
		time.Sleep(maxPause)
		if got := s.Fault(); got != "" || time.Until(s.NotAfter()) < 59*time.Minute {
			t.Errorf("the CA is back, and the fault is %q, the certificate valid until %s", got, s.NotAfter())
		}
	})
}

func TestWhoseCertificateHasExpiredNeedsAnotherToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := w.ca("ca:15010")
		w.token(orders)
		s := become(t, w.client("ca:15010"))
		defer run(t, s)()
		ca.change(func(ca *fakeCA) { ca.fault = func() error { return status.Error(codes.Unavailable, "away") } })
		time.Sleep(2 * time.Hour)
		wantError(t, s.Err(), "expired", "isthmus pki token --workload shop/orders")
		ca.change(func(ca *fakeCA) { ca.fault = nil })
		time.Sleep(time.Minute)
		if got := s.Fault(); !strings.Contains(got, "it ended at") || !strings.Contains(got, "isthmus pki token") {
			t.Errorf("with an old token the fault is %q", got)
		}
		w.token(orders)
		time.Sleep(time.Minute)
		if err := s.Err(); err != nil || s.Fault() != "" {
			t.Errorf("with a new token: %v, %q", err, s.Fault())
		}
		become(t, w.client("ca:15010"))
	})
}

func TestWhoseKeyWasRevokedBecomesSomebodyByAnotherToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca("ca:15010")
		w.token(orders)
		s := become(t, w.client("ca:15010"))
		defer run(t, s)()
		time.Sleep(time.Minute)
		m, err := identity.LoadMaterial(w.path("identity.pem"))
		if err != nil {
			t.Fatal(err)
		}
		gone, err := identity.Bundle{Number: 1, TrustDomain: "mesh.example", Made: time.Now(), Roots: s.Trust().Roots(),
			Revoked: []identity.Revocation{{What: identity.FingerprintOf(m.Chain[0]).String(), At: time.Now()}}}.Sign(w.mesh.Root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Trust().Accept(gone.Bytes()); err != nil {
			t.Fatal(err)
		}
		wantError(t, s.Err(), "is revoked")
		w.token(orders)
		time.Sleep(time.Minute)
		if err := s.Err(); err != nil || s.Fault() != "" {
			t.Errorf("a minute after a new token was there: %v, %q", err, s.Fault())
		}
	})
}

func TestAnExpiredCertificateOnDiskIsReplacedByAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca("ca:15010")
		w.token(orders)
		become(t, w.client("ca:15010"))
		time.Sleep(2 * time.Hour)
		_, err := w.client("ca:15010").Check()
		wantError(t, err, "it ended at", "isthmus pki token")
		_, err = w.client("ca:15010").Source(t.Context())
		wantError(t, err, "it ended at", "isthmus pki token")
		w.token(orders)
		become(t, w.client("ca:15010"))
	})
}

func TestACertificateThatLivesAMinuteIsRenewedInTimeOverAndOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := w.ca("ca:15010")
		ca.change(func(ca *fakeCA) { ca.ttl = time.Minute })
		w.token(orders)
		s := become(t, w.client("ca:15010"))
		defer run(t, s)()
		for range 600 {
			time.Sleep(time.Second)
			if left := time.Until(s.NotAfter()); left < 29*time.Second {
				t.Fatalf("%s is left", left)
			}
			if time.Now().After(s.WarnFrom()) {
				t.Fatal("it is warned of")
			}
		}
		if n := strings.Count(ca.asked(), "certificate"); n < 19 || n > 26 {
			t.Errorf("%d renewals in ten minutes", n)
		}
	})
}

// kept returns the leaf in the state file.
func kept(t *testing.T, w *world) *x509.Certificate {
	t.Helper()
	m, err := identity.LoadMaterial(w.path("identity.pem"))
	if err != nil || len(m.Chain) != 2 || len(m.Roots) != 1 {
		t.Fatalf("%d certificates and %d roots are kept: %v", len(m.Chain), len(m.Roots), err)
	}
	return m.Chain[0]
}

func FuzzAnswer(f *testing.F) {
	f.Add("")
	f.Add(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x03, 0x02, 0x01, 0x00}})))
	f.Fuzz(func(t *testing.T, text string) {
		chain, err := parseAnswer([]string{text, text})
		if err == nil && (len(chain) == 0 || len(chain) > maxChain) {
			t.Errorf("%d certificates", len(chain))
		}
	})
}
