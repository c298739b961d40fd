package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// meet runs both ends of a handshake, with a byte each way.
func meet(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	failed := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			over := tls.Server(c, server)
			_, err = io.CopyN(over, over, 1)
			over.Close()
		}
		failed <- err
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err == nil {
		if _, err = c.Write([]byte{1}); err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		c.Close()
	}
	if at := <-failed; err == nil {
		err = at
	}
	return err
}

func TestATokenGivesACertificateThatTheMeshAcceptsAndThatRenewsItself(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	for _, id := range []identity.ID{orders, west1} {
		key := newKey(t)
		chain, err := ca.redeem(c.token(id), &securityv1.IstioCertificateRequest{Csr: csrOf(t, key, id.String()), ValidityDuration: 600})
		if err != nil {
			t.Fatal(err)
		}
		first := source(t, chain, key)
		if len(chain) != 3 || first.ID() != id || chain[2].CheckSignatureFrom(chain[2]) != nil || chain[1].CheckSignatureFrom(chain[2]) != nil {
			t.Fatalf("%s has a chain of %d: %s", id, len(chain), first.ID())
		}
		if left := time.Until(chain[0].NotAfter); left > 10*time.Minute || left < 9*time.Minute {
			t.Errorf("600 s were asked for, it ends in %s", left)
		}
		if back := time.Since(chain[0].NotBefore); back < 50*time.Second || back > 2*time.Minute {
			t.Errorf("it began %s ago, want a tenth of its life", back)
		}
		// Another member of the mesh, whose certificate was made as ever.
		east, err := c.root.NewCluster("east", nil, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		other, err := east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
		if err != nil {
			t.Fatal(err)
		}
		peer, err := other.Source()
		if err != nil {
			t.Fatal(err)
		}
		if err := meet(t, first.ClientTLS("", identity.AnyGateway()), peer.ServerTLS(identity.OneOf([]string{id.String()}))); err != nil {
			t.Errorf("%s is not accepted: %v", id, err)
		}
		key = newKey(t)
		chain, err = ca.ask(first.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"), "", &securityv1.IstioCertificateRequest{Csr: csrOf(t, key)})
		if err != nil {
			t.Fatal(err)
		}
		if source(t, chain, key).ID() != id {
			t.Errorf("%s renewed to %s", id, chain[0].URIs)
		}
	}
	ca.end() // what is queued is written
	for _, want := range []string{
		`"kind":"certificate","decision":"granted","who":"` + orders.String() + `","from":"127.0.0.1","what":"serial `, `"why":"token `, `"why":"renewed"`,
	} {
		if !strings.Contains(ca.audited(), want) {
			t.Errorf("no %s in the audit stream:\n%s", want, ca.audited())
		}
	}
}

func TestAWorkloadsCertificateHasTheHostNamesOfItsService(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	chain, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders.shop.mesh", "orders.shop.west.mesh"} {
		if err := chain[0].VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	chain, err = ca.redeem(c.token(west1), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	if err != nil {
		t.Fatal(err)
	}
	if len(chain[0].DNSNames) > 0 {
		t.Errorf("a gateway has %v", chain[0].DNSNames)
	}
}

// An Istio agent knows the CA's root and its host name, and writes the identity without
// a cluster.
func TestAClientAsIstiosThatChecksAHostNameIsServed(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	roots, err := tls.Dial("tcp", ca.addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // to take its root
	if err != nil {
		t.Fatal(err)
	}
	chain := roots.ConnectionState().PeerCertificates
	roots.Close()
	pool := chain[len(chain)-1]
	config := &tls.Config{ServerName: "ca.example", RootCAs: newPool(pool)}
	if _, err := ca.ask(config, c.token(orders), &securityv1.IstioCertificateRequest{
		Csr: csrOf(t, newKey(t), "spiffe://mesh.example/ns/shop/sa/orders"), ValidityDuration: 3600,
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"ClusterID": structpb.NewStringValue("Kubernetes")}},
	}); err != nil {
		t.Error(err)
	}
}

func TestNobodyGetsTheCertificateOfAnother(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	other := "spiffe://mesh.example/cluster/west/ns/shop/sa/admins"
	for _, name := range []string{other, west1.String(), "spiffe://mesh.example/cluster/west/ca/ca-1", "spiffe://mesh.example/cluster/east/ns/shop/sa/orders",
		"spiffe://mesh.example/ns/shop/sa/admins", "spiffe://other.example/ns/shop/sa/orders"} {
		_, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t), name)})
		wantCode(t, name, err, codes.PermissionDenied, `csr: it names URI "`+name+`", but who asks is `+orders.String())
	}
	_, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t), orders.String(), other)})
	wantCode(t, "its own and another", err, codes.PermissionDenied, "admins")

	_, err = ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{
		Csr:      csrOf(t, newKey(t)),
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"ImpersonatedIdentity": structpb.NewStringValue(other)}},
	})
	wantCode(t, "impersonation", err, codes.PermissionDenied, "ImpersonatedIdentity")

	workload, err := c.west.Issue(identity.Request{ID: orders})
	if err != nil {
		t.Fatal(err)
	}
	s, err := workload.Source()
	if err != nil {
		t.Fatal(err)
	}
	config := s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2")
	_, err = ca.ask(config, "", &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t), other)})
	wantCode(t, "renewal", err, codes.PermissionDenied, "admins")
	// A token beside a certificate gives nothing that the certificate does not.
	token := c.token(west1)
	chain, err := ca.ask(config, token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	if err != nil || chain[0].URIs[0].String() != orders.String() {
		t.Errorf("with another's token: %v, %v", chain, err)
	}
	if _, err := ca.redeem(token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}); err != nil {
		t.Errorf("the token was used up by a renewal: %v", err)
	}
	ca.end()
	if want := `"decision":"refused","who":"` + orders.String() + `","from":"127.0.0.1","why":"csr: it names URI`; !strings.Contains(ca.audited(), want) {
		t.Errorf("no %s in the audit stream:\n%s", want, ca.audited())
	}
}

func TestWhoProvesNothingGetsNothing(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	anybody := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a stranger
	csr := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	_, err := ca.ask(anybody, "", csr)
	wantCode(t, "nothing", err, codes.Unauthenticated, "neither a certificate nor a token")
	_, err = ca.ask(anybody, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.AA", csr)
	wantCode(t, "a Kubernetes token", err, codes.Unauthenticated, "takes no tokens of service accounts")

	other := newTestCluster(t)
	_, err = ca.ask(anybody, other.token(orders), csr)
	wantCode(t, "another mesh's token", err, codes.Unauthenticated, "not made with the key of this CA")
	text, _, err := c.west.NewToken(orders, "ca-1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	who, _, refused := ca.answer(t.Context(), caller{token: text}, csr, time.Now().Add(time.Second))
	if refused == nil || refused.code != codes.Unauthenticated || !strings.Contains(refused.err.Error(), "it ended at") || who.id.ServiceAccount != "" {
		t.Errorf("an ended token: %+v, %v", who, refused)
	}
	for what, id := range map[string]*identity.Authority{"another cluster": eastOf(t, c), "another mesh": other.west} {
		cred, err := id.Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "orders"}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := cred.Source()
		if err != nil {
			t.Fatal(err)
		}
		config := s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2")
		config.VerifyConnection = nil // it would not trust this CA
		_, err = ca.ask(config, "", csr)
		wantCode(t, "a certificate of "+what, err, codes.Unavailable, "")
	}
	ca.end()
	if want := "expected a gateway or workload of cluster west of mesh.example, but the peer is spiffe://mesh.example/cluster/east/ns/shop/sa/orders"; !strings.Contains(ca.audited(), want) {
		t.Errorf("no %s in the audit stream:\n%s", want, ca.audited())
	}
}

func eastOf(t *testing.T, c *testCluster) *identity.Authority {
	t.Helper()
	east, err := c.root.NewCluster("east", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return east
}

func TestACAIsNobodysCaller(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	cred, err := c.west.IssueCA("ca-2", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cred.Source()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ca.ask(s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"), "", &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	wantCode(t, "a CA", err, codes.Unavailable, "")
}

func TestACertificateThatHasEndedSinceItsHandshakeDoesNotRenew(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	cred, err := c.west.Issue(identity.Request{ID: orders, TTL: time.Second, NotBefore: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{PeerCertificates: cred.Material().Chain}
	_, _, refused := ca.answer(t.Context(), caller{state: state}, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}, time.Now())
	if refused == nil || refused.code != codes.Unauthenticated || !strings.Contains(refused.err.Error(), "expired at") {
		t.Errorf("%v", refused)
	}
}

func TestNothingLastsLongerThanItMay(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1") // its intermediate ends in an hour
	for _, asked := range []int64{0, 1 << 62, 7200} {
		chain, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t)), ValidityDuration: asked})
		if err != nil {
			t.Fatal(err)
		}
		if !chain[0].NotAfter.Equal(chain[1].NotAfter) {
			t.Errorf("asked for %d s it ends %s, the intermediate %s", asked, chain[0].NotAfter, chain[1].NotAfter)
		}
	}
	short := *ca.cfg
	short.TTL = time.Minute
	ca.inForce.Store(&short)
	for asked, most := range map[int64]time.Duration{0: time.Minute, 3600: time.Minute, 5: 5 * time.Second} {
		chain, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t)), ValidityDuration: asked})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(chain[0].NotAfter); left > most {
			t.Errorf("asked for %d s it ends in %s, want %s at most", asked, left, most)
		}
	}
	_, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t)), ValidityDuration: -1})
	wantCode(t, "a negative one", err, codes.InvalidArgument, "validity_duration of -1 seconds")
}

func TestWhoAsksTooOftenWaitsAndOthersDoNot(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	now := time.Now()
	asks := func(id identity.ID, addr string) *refusal {
		cred, err := c.west.Issue(identity.Request{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		who := caller{addr: &net.TCPAddr{IP: net.ParseIP(addr)}, state: tls.ConnectionState{PeerCertificates: cred.Material().Chain}}
		_, _, refused := ca.answer(t.Context(), who, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}, now)
		return refused
	}
	for i := range identityBurst {
		if r := asks(orders, "10.0.0.1"); r != nil {
			t.Fatalf("call %d: %v", i, r.err)
		}
	}
	if r := asks(orders, "10.0.0.2"); r == nil || r.code != codes.ResourceExhausted || !strings.Contains(r.err.Error(), "orders asks too often") {
		t.Errorf("one identity too many: %v", r)
	}
	if r := asks(west1, "10.0.0.1"); r != nil {
		t.Errorf("another identity of that address: %v", r.err)
	}
	stranger := func(addr string) *refusal {
		_, _, refused := ca.answer(t.Context(), caller{addr: &net.TCPAddr{IP: net.ParseIP(addr)}}, nil, now)
		return refused
	}
	for range sourceBurst {
		if r := stranger("2001:db8::1"); r.code != codes.Unauthenticated {
			t.Fatal(r.err)
		}
	}
	if r := stranger("2001:db8::2"); r.code != codes.ResourceExhausted {
		t.Errorf("one call of a /64 too many: %v", r.err)
	}
	if r := stranger("2001:db8:0:1::2"); r.code != codes.Unauthenticated {
		t.Errorf("another /64: %v", r.err)
	}
	now = now.Add(time.Second)
	if r := asks(orders, "10.0.0.2"); r != nil {
		t.Errorf("a second later: %v", r.err)
	}
}

func TestCertificatesThatStrangersMakeUpDoNotFillTheAuditStream(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for i := range sourceBurst + 200 {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
			URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.example", Path: fmt.Sprint("/cluster/west/ns/shop/sa/invented-", i)}}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", ca.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, //nolint:gosec // it is the CA's that counts
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, conn) // it is refused
		conn.Close()
	}
	most := sourceBurst + sourceRate*(1+int(time.Since(begun)/time.Second))
	if n := strings.Count(ca.audited(), "invented-"); n == 0 || n > most {
		t.Errorf("%d invented certificates are %d lines, want at most %d", sourceBurst+200, n, most)
	}
}

func TestManyAskAtOnceAndEachTokenMakesOneIdentity(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	const tokens, thieves = 8, 6
	var wins [tokens]int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range tokens {
		token := c.token(orders)
		for range thieves {
			csr := csrOf(t, newKey(t))
			all.Go(func() {
				_, err := ca.redeem(token, &securityv1.IstioCertificateRequest{Csr: csr})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					wins[i]++
				} else if status.Code(err) != codes.Unauthenticated {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for i, n := range wins {
		if n != 1 {
			t.Errorf("token %d made %d identities", i, n)
		}
	}
}
