package ca

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	securityv1 "istio.io/api/security/v1alpha1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// apiServer knows the service accounts' tokens of one cluster.
type apiServer struct {
	users map[string]authenticationv1.UserInfo // by token
	asked atomic.Int64
	fault atomic.Pointer[error] // instead of an answer; nil: none

	mu   sync.Mutex
	pods map[string]*corev1.Pod // by namespace/name
}

// getPod answers as the API server does.
func (a *apiServer) getPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	if fault := a.fault.Load(); fault != nil {
		return nil, *fault
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if pod := a.pods[namespace+"/"+name]; pod != nil {
		return pod, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
}

// change makes another one of a pod; nil: it is deleted.
func (a *apiServer) change(name string, to *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if to == nil {
		delete(a.pods, name)
		return
	}
	a.pods[name] = to
}

func (a *apiServer) review(_ context.Context, token, audience string) (*authenticationv1.TokenReviewStatus, error) {
	a.asked.Add(1)
	if fault := a.fault.Load(); fault != nil {
		return nil, *fault
	}
	user, ok := a.users[token]
	if !ok {
		return &authenticationv1.TokenReviewStatus{Error: "invalid bearer token"}, nil
	}
	return &authenticationv1.TokenReviewStatus{Authenticated: true, User: user, Audiences: []string{audience}}, nil
}

// projected makes a token as the kubelet projects one; its signature says nothing.
func projected(audience, namespace, account, signature string, ends time.Time) string {
	claims, _ := json.Marshal(map[string]any{
		"aud": []string{audience}, "sub": "system:serviceaccount:" + namespace + ":" + account, "exp": ends.Unix(),
	})
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part(claims) + "." + part([]byte(signature))
}

// account makes the API server know a token, bound to a pod unless that is empty.
func (a *apiServer) account(namespace, account, pod string) string {
	token := projected("isthmus", namespace, account, "good"+pod, time.Now().Add(time.Hour))
	user := authenticationv1.UserInfo{Username: "system:serviceaccount:" + namespace + ":" + account}
	if pod != "" {
		user.Extra = map[string]authenticationv1.ExtraValue{podName: {pod}, podUID: {"uid-of-" + pod}}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.pods == nil {
			a.pods = map[string]*corev1.Pod{}
		}
		a.pods[namespace+"/"+pod] = &corev1.Pod{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod, UID: types.UID("uid-of-" + pod)},
		}
	}
	a.users[token] = user
	return token
}

// ServeHTTP answers TokenReviews, and for pods, as the API server does.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if path := strings.Split(r.URL.Path, "/"); len(path) == 7 && path[5] == "pods" && r.Method == http.MethodGet {
		pod, err := a.getPod(r.Context(), path[4], path[6])
		if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
			w.WriteHeader(http.StatusNotFound)
			answer := status.Status()
			answer.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
			_ = json.NewEncoder(w).Encode(answer)
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		} else {
			_ = json.NewEncoder(w).Encode(pod)
		}
		return
	}
	var review authenticationv1.TokenReview
	err := json.NewDecoder(r.Body).Decode(&review)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || len(review.Spec.Audiences) != 1 {
		http.Error(w, fmt.Sprint("what is that? ", err, r.URL), http.StatusBadRequest)
		return
	}
	answer, err := a.review(r.Context(), review.Spec.Token, review.Spec.Audiences[0])
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	review.Status = *answer
	review.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

// inKubernetes starts a CA that asks a.
func (c *testCluster) inKubernetes(name string, a *apiServer) *testCA {
	c.t.Helper()
	server := httptest.NewServer(a)
	c.t.Cleanup(server.Close)
	cfg := c.config(name, filepath.Join(c.t.TempDir(), "state"))
	kubeconfig := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(`apiVersion: v1
kind: Config
clusters: [{name: west, cluster: {server: "`+server.URL+`"}}]
users: [{name: ca, user: {token: "the CA's own"}}]
contexts: [{name: west, context: {cluster: west, user: ca}}]
current-context: west
`), 0o600); err != nil {
		c.t.Fatal(err)
	}
	cfg.Kubernetes = &config.CAKubernetes{Audience: "isthmus", Gateways: "isthmus-system/isthmus-gateway", Kubeconfig: kubeconfig}
	return c.start(cfg)
}

// show asks with a service account's token, as a pod does.
func (ca *testCA) show(c *testCluster, token string, r *securityv1.IstioCertificateRequest) (identity.ID, error) {
	ca.t.Helper()
	first := identity.FirstTrust{Cluster: "west", Roots: []identity.Fingerprint{c.root.Fingerprint()}}
	chain, err := ca.ask(first.ClientTLS("h2"), token, r)
	if err != nil {
		return identity.ID{}, err
	}
	id, err := identity.IDOf(chain[0])
	if err != nil {
		ca.t.Fatal(err)
	}
	return id, nil
}

func TestAServiceAccountsTokenMakesItsAccountAndAGatewaysPodTheGatewayOfItsName(t *testing.T) {
	c, a := newTestCluster(t), &apiServer{users: map[string]authenticationv1.UserInfo{}}
	ca := c.inKubernetes("ca-1", a)
	another := c.inKubernetes("ca-2", a)
	for _, want := range []struct{ namespace, account, pod, id string }{
		{"shop", "orders", "orders-7d9f-x2", "/ns/shop/sa/orders"},
		{"shop", "a.b", "", "/ns/shop/sa/a.b"},
		{"isthmus-system", "isthmus-gateway", "isthmus-gateway-0", "/gateway/isthmus-gateway-0"},
		{"isthmus-system", "isthmus-node", "isthmus-node-x", "/ns/isthmus-system/sa/isthmus-node"},
		{"other", "isthmus-gateway", "isthmus-gateway-0", "/ns/other/sa/isthmus-gateway"},
	} {
		token := a.account(want.namespace, want.account, want.pod)
		for _, ca := range []*testCA{ca, another, ca} { // any of them, and again
			id, err := ca.show(c, token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
			if got := id.String(); err != nil || got != "spiffe://mesh.example/cluster/west"+want.id {
				t.Errorf("%s/%s: %s, %v", want.namespace, want.account, got, err)
			}
		}
	}
	ca.end()
	if got := ca.audited(); !strings.Contains(got, "service account token of pod shop/orders-7d9f-x2") {
		t.Errorf("the audit stream does not say by what:\n%s", got)
	}
}

func TestATokenThatIsNoneOfTheClustersPodsMakesNobody(t *testing.T) {
	c, a := newTestCluster(t), &apiServer{users: map[string]authenticationv1.UserInfo{}}
	ca := c.inKubernetes("ca-1", a)
	soon := time.Now().Add(time.Hour)
	elsewhere := a.account("shop", "elsewhere", "")
	a.users[elsewhere] = authenticationv1.UserInfo{Username: "system:node:node-1"}
	for what, want := range map[string]struct{ token, says string }{
		"for another audience":                 {projected("vault", "shop", "orders", "good", soon), `it is for the audience ["vault"], this CA takes those for "isthmus"`},
		"ended":                                {projected("isthmus", "shop", "orders", "good", time.Now().Add(-time.Minute)), "it ended at"},
		"of another cluster, or a deleted pod": {projected("isthmus", "shop", "orders", "forged", soon), "this cluster's API server does not take it"},
		"of no service account":                {elsewhere, "is no service account"},
		"of a gateway, bound to no pod":        {a.account("isthmus-system", "isthmus-gateway", ""), "the pod that it is bound to"},
		"of a gateway whose pod has dots":      {a.account("isthmus-system", "isthmus-gateway", "a.b"), "the pod that it is bound to"},
		"not a token":                          {"hunter2", "it is neither one of"},
		"of claims that are none":              {"a." + base64.RawURLEncoding.EncodeToString([]byte("[]")) + ".b", "its claims"},
	} {
		_, err := ca.show(c, want.token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
		wantCode(t, "a token "+what, err, codes.Unauthenticated, want.says)
	}
	token := a.account("shop", "orders", "orders-1")
	_, err := ca.show(c, token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t), "spiffe://mesh.example/cluster/west/ns/shop/sa/cart")})
	wantCode(t, "a request for another account", err, codes.PermissionDenied, "who asks is spiffe://mesh.example/cluster/west/ns/shop/sa/orders")
	_, err = c.ca("plain").show(c, token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	wantCode(t, "a CA that is not in Kubernetes", err, codes.Unauthenticated, "takes no tokens of service accounts")
}

func TestAnAnswerForAnotherAudienceIsNone(t *testing.T) {
	r := newReviews(&config.CAKubernetes{Audience: "isthmus"}, func(context.Context, string, string) (*authenticationv1.TokenReviewStatus, error) {
		// An API server that does not know of audiences says nothing of them.
		return &authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "system:serviceaccount:shop:orders"}}, nil
	}, newAsking(), orders)
	_, refused := r.whose(t.Context(), projected("isthmus", "shop", "orders", "", time.Now().Add(time.Hour)), time.Now())
	if refused == nil || !strings.Contains(refused.err.Error(), "for the audience []") {
		t.Errorf("refused: %v", refused)
	}
}

func TestWithoutTheAPIServerARenewalByCertificateGoesOn(t *testing.T) {
	c, a := newTestCluster(t), &apiServer{users: map[string]authenticationv1.UserInfo{}}
	ca := c.inKubernetes("ca-1", a)
	token := a.account("shop", "orders", "orders-1")
	key := newKey(t)
	first := identity.FirstTrust{Cluster: "west", Roots: []identity.Fingerprint{c.root.Fingerprint()}}
	chain, err := ca.ask(first.ClientTLS("h2"), token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("connection refused")
	a.fault.Store(&fault)
	_, err = ca.show(c, token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	wantCode(t, "the API server is away", err, codes.Unavailable, "the API server does not say whose the token is")
	s := source(t, chain, key)
	chain, err = ca.ask(s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"), "", &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := identity.IDOf(chain[0]); err != nil || id != orders {
		t.Errorf("renewed: %s, %v", id, err)
	}
}

func TestOnlyRefusalsAreRememberedAndNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &apiServer{users: map[string]authenticationv1.UserInfo{}}
		r := newReviews(&config.CAKubernetes{Audience: "isthmus"}, a.review, newAsking(), orders)
		ask := func(token string) string {
			who, refused := r.whose(t.Context(), token, time.Now())
			if refused != nil {
				return "refused"
			}
			return who.id.ServiceAccount
		}
		good := a.account("shop", "orders", "orders-1")
		for range 2 {
			if got := ask(good); got != "orders" {
				t.Errorf("a good token: %s", got)
			}
		}
		if a.asked.Load() != 2 {
			t.Errorf("the API server was asked %d times about a good token, want each time", a.asked.Load())
		}
		user := a.users[good]
		delete(a.users, good) // the pod is deleted
		for range 100 {
			if got := ask(good); got != "refused" {
				t.Errorf("of a deleted pod: %s", got)
			}
		}
		if n := a.asked.Load(); n != 3 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(refusedFor)
		a.users[good] = user
		if got := ask(good); got != "orders" {
			t.Errorf("the API server knows the pod by now: %s", got)
		}
		for i := range maxRefused + 10 {
			ask(projected("isthmus", "shop", "orders", fmt.Sprint(i), time.Now().Add(time.Hour)))
		}
		if n := len(r.refused); n != maxRefused {
			t.Errorf("%d are remembered, want at most %d", n, maxRefused)
		}
		time.Sleep(refusedFor)
		ask(projected("isthmus", "shop", "orders", "one more", time.Now().Add(time.Hour)))
		if n := len(r.refused); n != 1 {
			t.Errorf("%d are remembered after a while, want the last", n)
		}
	})
}

func TestTheAPIServerIsAskedAFewTimesAtATimeAndTheRestHaveADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		r := newReviews(&config.CAKubernetes{Audience: "isthmus"}, func(ctx context.Context, _, _ string) (*authenticationv1.TokenReviewStatus, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}, newAsking(), orders)
		began := time.Now()
		refusals := make(chan *refusal, 3*maxReviews)
		for range 3 * maxReviews {
			go func() {
				_, refused := r.whose(t.Context(), projected("isthmus", "shop", "orders", "", time.Now().Add(time.Hour)), time.Now())
				refusals <- refused
			}()
		}
		for range 3 * maxReviews {
			if refused := <-refusals; refused == nil || status.Code(refused.status()) != codes.Unavailable {
				t.Errorf("answered %v", refused)
			}
		}
		if most.Load() != maxReviews || time.Since(began) != reviewTimeout {
			t.Errorf("%d at a time, %s", most.Load(), time.Since(began))
		}
	})
}

func FuzzServiceAccountToken(f *testing.F) {
	f.Add(projected("isthmus", "shop", "orders", "x", time.Unix(1<<33, 0)))
	f.Add("a.e30.b")
	r := newReviews(&config.CAKubernetes{Audience: "isthmus"}, nil, newAsking(), orders)
	f.Fuzz(func(t *testing.T, token string) {
		if refused := r.precheck(token, time.Unix(1<<31, 0)); refused != nil && status.Code(refused.status()) != codes.Unauthenticated {
			t.Errorf("refused with %v", refused)
		}
	})
}
