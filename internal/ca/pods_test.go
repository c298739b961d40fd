package ca

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	securityv1 "istio.io/api/security/v1alpha1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func TestACertificateOfAPodThatIsGoneIsNotRenewed(t *testing.T) {
	c, a := newTestCluster(t), &apiServer{users: map[string]authenticationv1.UserInfo{}}
	ca, plain := c.inKubernetes("ca-1", a), c.ca("plain")
	first := identity.FirstTrust{Cluster: "west", Roots: []identity.Fingerprint{c.root.Fingerprint()}}
	for what, end := range map[string]struct {
		pod  *corev1.Pod // nil: deleted
		says string
	}{
		"was deleted":       {nil, "which is gone"},
		"was made anew":     {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "another"}}, "another one has its name"},
		"has ended":         {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "uid-of-p-0"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, "which has ended"},
		"ends and is there": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "uid-of-p-0", DeletionTimestamp: new(metav1.Now())}}, ""},
	} {
		for _, account := range []string{"shop/orders", "isthmus-system/isthmus-gateway"} {
			namespace, name, _ := strings.Cut(account, "/")
			key := newKey(t)
			chain, err := ca.ask(first.ClientTLS("h2"), a.account(namespace, name, "p-0"), &securityv1.IstioCertificateRequest{Csr: csrOf(t, key)})
			if err != nil {
				t.Fatal(err)
			}
			renew := func(at *testCA) error {
				next := newKey(t)
				s := source(t, chain, key)
				again, err := at.ask(s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"), "", &securityv1.IstioCertificateRequest{Csr: csrOf(t, next)})
				if err == nil {
					chain, key = again, next
				}
				return err
			}
			for range 2 { // a renewed one is still the pod's
				if err := renew(ca); err != nil {
					t.Fatalf("%s, and its pod is there: %v", account, err)
				}
			}
			wantCode(t, "a CA that asks no API server", renew(plain), codes.FailedPrecondition, "asks no API server")
			a.change(namespace+"/p-0", end.pod)
			if err := renew(ca); end.says != "" {
				wantCode(t, account+", whose pod "+what, err, codes.Unauthenticated, end.says)
			} else if err != nil {
				t.Errorf("%s, whose pod %s: %v", account, what, err)
			}
		}
	}
}

func TestAPodCountsAsThereForADayWithoutTheAPIServersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &apiServer{users: map[string]authenticationv1.UserInfo{}}
		a.account("shop", "orders", "orders-1")
		p := newPods(&config.CAKubernetes{}, a.getPod, newAsking(), time.Now(), slog.New(slog.DiscardHandler))
		pod := identity.Pod{Name: "orders-1", UID: "uid-of-orders-1"}
		ask := func() codes.Code {
			if refused := p.there(context.Background(), orders, pod, time.Now()); refused != nil {
				return refused.code
			}
			return codes.OK
		}
		want := func(what string, code codes.Code) {
			t.Helper()
			if got := ask(); got != code {
				t.Errorf("%s: %s, want %s", what, got, code)
			}
		}
		fault := errors.New("connection refused")
		a.fault.Store(&fault)
		time.Sleep(mayBeAway - 1)
		want("away since the CA began", codes.OK)
		a.fault.Store(nil)
		want("it answers", codes.OK)
		a.fault.Store(&fault)
		time.Sleep(mayBeAway - 1)
		want("away again", codes.OK)
		time.Sleep(time.Nanosecond)
		want("away for a day", codes.Unavailable)
		a.fault.Store(nil)
		a.change("shop/orders-1", nil)
		want("back, without the pod", codes.Unauthenticated)
	})
}
