package caclient

import (
	"encoding/base64"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// project writes a service account's token into the token file, as the kubelet does.
func (w *world) project(account string, life time.Duration) {
	w.t.Helper()
	part := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":"system:serviceaccount:shop:%s","exp":%d}`, account, time.Now().Add(life).Unix())
	text := part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + ".c2lnbmF0dXJl"
	if err := os.WriteFile(w.path("token"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// pod is a client that has a service account's token and knows the root.
func (w *world) pod(addresses ...string) *Client {
	c := w.client(addresses...)
	c.cfg.First = func() (identity.FirstTrust, error) {
		return identity.NewFirstTrust("west", []string{w.mesh.Root.Fingerprint().String()}, "")
	}
	return c
}

func TestAPodBecomesItsAccountByTheTokenThatTheKubeletWrites(t *testing.T) {
	w := newWorld(t)
	ca := w.ca("ca:15010")
	w.project("orders", time.Hour)
	become(t, w.pod("ca:15010"))
	become(t, w.pod("gone:15010")) // a restart of the container needs nobody
	if err := os.Remove(w.path("identity.pem")); err != nil {
		t.Fatal(err)
	}
	become(t, w.pod("ca:15010")) // the same token again
	if got := ca.asked(); got != "account orders, account orders" {
		t.Errorf("the CA was asked %q", got)
	}
	w.project("cart", time.Hour) // what is on disk is another account's
	s, err := w.pod("ca:15010").Source(t.Context())
	if err != nil || s.ID().ServiceAccount != "cart" {
		t.Errorf("became %v, %v", s, err)
	}
}

func TestAPodThatAsksForIstiosNameHasItAtOnce(t *testing.T) {
	w := newWorld(t)
	ca := w.ca("ca:15010")
	w.project("orders", time.Hour)
	c := w.pod("ca:15010")
	c.cfg.IstioName = true
	become(t, c)
	if leaf := kept(t, w); len(leaf.URIs) != 2 {
		t.Errorf("the certificate names %v", leaf.URIs)
	}
	if got := ca.asked(); got != "account orders, certificate orders" {
		t.Errorf("the CA was asked %q", got)
	}
}

func TestAPodShowsItsTokenToNobodyButTheCAsOfItsCluster(t *testing.T) {
	w := newWorld(t)
	w.project("orders", time.Hour)
	var others []*fakeCA
	east := w.mesh.Cluster("east")
	another, err := east.IssueCA("east-ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	others = append(others, w.serve("east:15010", another), w.serve("gateway:15010", w.gateway("west-1")), newWorld(t).ca("stranger:15010"))
	w.cas["stranger:15010"] = others[2]
	_, err = w.pod("east:15010", "gateway:15010", "stranger:15010").Source(t.Context())
	wantError(t, err, "CA east:15010: expected a CA of cluster west", "CA stranger:15010: the CA is under none of the roots")
	for _, ca := range others {
		if got := ca.asked(); got != "" {
			t.Errorf("it was shown a token: %q", got)
		}
	}
}

func TestAnAnswerForAnotherAccountIsRefused(t *testing.T) {
	w := newWorld(t)
	ca := w.ca("ca:15010")
	w.project("orders", time.Hour)
	ca.change(func(ca *fakeCA) { ca.issues = &identity.ID{Namespace: "shop", ServiceAccount: "cart"} })
	_, err := w.pod("ca:15010").Source(t.Context())
	wantError(t, err, "cart, the token is of service account shop/orders")
}

func TestWhatIsNoServiceAccountsTokenIsAnErrorThatSaysWhoWritesIt(t *testing.T) {
	w := newWorld(t)
	c := w.pod("ca:15010")
	_, err := c.Source(t.Context())
	wantError(t, err, "no such file", "the kubelet writes it")
	w.token(orders)
	_, err = c.Source(t.Context())
	wantError(t, err, "it is a token of 'isthmus pki token'")
	for text, want := range map[string]string{
		"x": "no service account's token", "eyJh.!.x": "illegal base64", "eyJh.e30.x": "is no service account", "eyJh.W10.x": "cannot unmarshal",
	} {
		if err := os.WriteFile(w.path("token"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = c.Source(t.Context())
		wantError(t, err, want)
	}
	w.project("orders", time.Hour)
	_, err = w.client("ca:15010").Source(t.Context())
	wantError(t, err, "write identity.fingerprint (or identity.roots) and identity.cluster")
	w.project("orders", -time.Hour)
	_, err = c.Check()
	wantError(t, err, "it ended at", "the kubelet writes it")
}

func TestAPodWhoseCertificateIsNotTakenAnyMoreShowsItsTokenOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ca := w.ca("ca:15010")
		w.project("orders", time.Hour)
		s := become(t, w.pod("ca:15010"))
		defer run(t, s)()
		ca.change(func(ca *fakeCA) {
			ca.fault = func() error { return status.Error(codes.Unavailable, "away") }
		})
		time.Sleep(3 * time.Hour)
		wantError(t, s.Err(), "expired", "the kubelet writes it")
		w.project("orders", time.Hour)
		ca.change(func(ca *fakeCA) { ca.fault = nil })
		time.Sleep(time.Minute)
		if err := s.Err(); err != nil || s.Fault() != "" {
			t.Errorf("the CA is back: %v, %q", err, s.Fault())
		}
		before := ca.asked()
		time.Sleep(35 * time.Minute)
		if got := ca.asked(); got != before+", certificate orders" {
			t.Errorf("as long as the certificate is good it was renewed by %q", got[len(before):])
		}
	})
}

func FuzzServiceAccountToken(f *testing.F) {
	f.Add("eyJh.e30.x")
	f.Fuzz(func(t *testing.T, text string) {
		if account, _, err := readServiceAccountToken(text); err == nil && (account.Namespace == "" || account.ServiceAccount == "") {
			t.Errorf("%q is of %+v", text, account)
		}
	})
}
