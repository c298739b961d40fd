package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/kube"
)

// apiServer takes PUTs as an API server does, with conflicts; what is in it stands for what
// watches bring.
type apiServer struct {
	t             *testing.T
	secret        *corev1.Secret
	configuration *admissionregistrationv1.MutatingWebhookConfiguration
	written       int
	down          bool
}

func newAPIServer(t *testing.T) *apiServer {
	return &apiServer{
		t:      t,
		secret: &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "isthmus-webhook", Namespace: "isthmus-system", ResourceVersion: "1"}},
		configuration: &admissionregistrationv1.MutatingWebhookConfiguration{
			TypeMeta: metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"}, ObjectMeta: metav1.ObjectMeta{Name: "isthmus", ResourceVersion: "1"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "namespace.isthmus.io"}, {Name: "pod.isthmus.io"}},
		},
	}
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	if a.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	var into metav1.Object
	switch {
	case r.Method != http.MethodPut:
		a.t.Errorf("%s %s", r.Method, r.URL)
		return
	case strings.HasSuffix(r.URL.Path, "/namespaces/isthmus-system/secrets/isthmus-webhook"):
		into = a.secret
	case strings.HasSuffix(r.URL.Path, "/mutatingwebhookconfigurations/isthmus"):
		into = a.configuration
	default:
		a.t.Errorf("PUT %s", r.URL)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(body, &meta); err != nil {
		a.t.Error(err)
	}
	if meta.ResourceVersion != into.GetResourceVersion() {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409}`)
		return
	}
	a.written++
	if err := json.Unmarshal(body, into); err != nil {
		a.t.Error(err)
	}
	into.SetResourceVersion(fmt.Sprint(a.written + 1))
	_ = json.NewEncoder(w).Encode(into)
}

// replica returns one that writes to a.
func (a *apiServer) replica() *Webhook {
	server := httptest.NewServer(a)
	a.t.Cleanup(server.Close)
	file := filepath.Join(a.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, clusters: [{name: a, cluster: {server: %q}}], contexts: [{name: a, context: {cluster: a}}], current-context: a}", server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	client, err := kube.Open(kube.Config{Kubeconfig: file})
	if err != nil {
		a.t.Fatal(err)
	}
	return &Webhook{kube: client, namespace: "isthmus-system", log: slog.New(slog.DiscardHandler),
		cfg: &config.Webhook{Secret: "isthmus-webhook", Service: "isthmus-webhook", WebhookConfiguration: "isthmus"}}
}

func (a *apiServer) keep(w *Webhook, now time.Time) error {
	return w.keepCertificate(a.t.Context(), []*corev1.Secret{a.secret.DeepCopy()}, []*admissionregistrationv1.MutatingWebhookConfiguration{a.configuration.DeepCopy()}, now)
}

func (a *apiServer) trusts(w *Webhook, now time.Time) {
	a.t.Helper()
	for _, h := range a.configuration.Webhooks {
		if err := verify(h.ClientConfig.CABundle, w.leaf.Load().Leaf, now); err != nil {
			a.t.Errorf("%s: %v", h.Name, err)
		}
	}
}

func TestReplicasShareAnAuthority(t *testing.T) {
	a := newAPIServer(t)
	now := time.Now()
	first, second := a.replica(), a.replica()
	empty := a.secret.DeepCopy()
	for range 2 { // the second time does what the first has shown to be due
		if err := a.keep(first, now); err != nil {
			t.Fatal(err)
		}
	}
	if a.written != 2 {
		t.Fatalf("%d writes, want the Secret and the caBundle once", a.written)
	}
	// The second one has made an authority as well, and is too late.
	if all, err := second.keepSecret(t.Context(), empty, now); err != nil || all != nil {
		t.Fatalf("a Secret that somebody else has written is %v, %v", all, err)
	}
	if err := a.keep(second, now); err != nil {
		t.Fatal(err)
	}
	if a.written != 2 {
		t.Errorf("the second replica writes what is there")
	}
	a.trusts(first, now)
	a.trusts(second, now)
	if bytes.Equal(first.leaf.Load().Certificate[0], second.leaf.Load().Certificate[0]) {
		t.Error("replicas share a key")
	}
}

func TestACABundleThatSomebodyRemovesComesBack(t *testing.T) {
	a := newAPIServer(t)
	now := time.Now()
	w := a.replica()
	if err := a.keep(w, now); err != nil {
		t.Fatal(err)
	}
	a.configuration.Webhooks[1].ClientConfig.CABundle = nil
	if err := a.keep(w, now); err != nil {
		t.Fatal(err)
	}
	a.trusts(w, now)
}

func TestASecretThatCannotBeReadIsReplaced(t *testing.T) {
	a := newAPIServer(t)
	a.secret.Data = map[string][]byte{secretKey: []byte("rubbish"), "other": []byte("kept")}
	w := a.replica()
	if err := a.keep(w, time.Now()); err != nil {
		t.Fatal(err)
	}
	a.trusts(w, time.Now())
	if string(a.secret.Data["other"]) != "kept" {
		t.Error("what is somebody else's in the Secret is gone")
	}
}

// As long as a certificate lasts, what cannot be written is no reason for nobody to answer.
func TestAReplicaThatCannotWriteStaysReadyWhileItsCertificateLasts(t *testing.T) {
	a := newAPIServer(t)
	now := time.Now()
	w := a.replica()
	if err := a.keep(w, now); err != nil {
		t.Fatal(err)
	}
	a.down = true
	if err := a.keep(w, now.Add(authorityLife/2)); err == nil {
		t.Error("an authority that could not be written is no error")
	}
	if why := w.noCertificate(); why != "" {
		t.Error(why)
	}
	a.trusts(w, now.Add(authorityLife/2)) // the old authority has made another certificate
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	a := newAPIServer(t)
	w := a.replica()
	none := []*admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := w.keepCertificate(t.Context(), []*corev1.Secret{}, none, time.Now()); err == nil || !strings.Contains(err.Error(), "kubectl -n isthmus-system create secret generic isthmus-webhook") {
		t.Error(err)
	}
	if err := w.keepCertificate(t.Context(), []*corev1.Secret{a.secret}, none, time.Now()); err == nil || !strings.Contains(err.Error(), "there is no MutatingWebhookConfiguration isthmus") {
		t.Error(err)
	}
	if err := w.keepCertificate(t.Context(), nil, nil, time.Now()); err != errNotYet {
		t.Error(err)
	}
	if why := (&Webhook{}).noCertificate(); why != "it has not been made yet" {
		t.Error(why)
	}
	if _, err := (&Webhook{}).certificateOf(nil); err == nil {
		t.Error("a handshake without a certificate")
	}
}
