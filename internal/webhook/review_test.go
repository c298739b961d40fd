package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/inject"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// newWebhook returns one that asks no API server.
func newWebhook(t testing.TB) *Webhook {
	t.Helper()
	injector, err := inject.New(&config.Injection{Image: "i", Cluster: "west", Gateways: []string{"g:1"}, CA: []string{"c:1"}, Interception: config.ByNode, Inbound: config.PodStrict}, []identity.Fingerprint{{1}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &Webhook{namespace: "isthmus-system", log: slog.New(slog.DiscardHandler), metrics: m, turns: limit.NewPlaces[limit.Source](maxReviews, maxOfSource)}
	w.injector.Store(injector)
	return w
}

// question is an AdmissionReview about a pod.
func question(namespace, pod string) string {
	return fmt.Sprintf(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"},
		"resource": {"group": "", "version": "v1", "resource": "pods"}, "operation": "CREATE", "namespace": %q, "dryRun": true, "object": %s}}`, namespace, pod)
}

func ask(t *testing.T, w *Webhook, body string) *admissionv1.AdmissionResponse {
	t.Helper()
	answer, err := w.review([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Kind != "AdmissionReview" || answer.APIVersion != "admission.k8s.io/v1" || answer.Response.UID != "u" {
		t.Fatalf("answer is %+v", answer)
	}
	return answer.Response
}

const plainPod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}`

func TestANewPodGetsItsSidecar(t *testing.T) {
	r := ask(t, newWebhook(t), question("shop", plainPod))
	if !r.Allowed || r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch || !strings.Contains(string(r.Patch), `"path":"/spec/initContainers"`) {
		t.Errorf("%+v, patch %s", r, r.Patch)
	}
}

func TestWhatTheMeshNeedsForItselfIsNeverTouchedOrBlocked(t *testing.T) {
	w := newWebhook(t)
	refused := strings.Replace(plainPod, `"image"`, `"securityContext": {"runAsUser": 15000}, "image"`, 1)
	if r := ask(t, w, question("shop", refused)); r.Allowed {
		t.Fatal("the pod of this test is not refused elsewhere")
	}
	for name, body := range map[string]string{
		"own namespace": question("isthmus-system", refused),
		"kube-system":   question("kube-system", refused),
		"update":        strings.Replace(question("shop", refused), "CREATE", "UPDATE", 1),
		"subresource":   strings.Replace(question("shop", refused), `"uid": "u"`, `"uid": "u", "subResource": "ephemeralcontainers"`, 1),
		"other kind":    strings.Replace(question("shop", refused), `"kind": "Pod"}`, `"kind": "Job"}`, 1),
	} {
		if r := ask(t, w, body); !r.Allowed || len(r.Patch) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestARefusalSaysWhatToWriteAndHowToOptOut(t *testing.T) {
	r := ask(t, newWebhook(t), question("shop", strings.Replace(plainPod, `"image"`, `"securityContext": {"runAsUser": 15000}, "image"`, 1)))
	if r.Allowed || r.Result == nil || !strings.Contains(r.Result.Message, "isthmus: container a has runAsUser 15000") || !strings.Contains(r.Result.Message, "label isthmus.io/inject: disabled") {
		t.Errorf("%+v", r.Result)
	}
	if r := ask(t, newWebhook(t), question("shop", `{"spec": 3}`)); r.Allowed || !strings.Contains(r.Result.Message, "is no pod") {
		t.Errorf("%+v", r.Result)
	}
}

func TestWhoMakesAPodThatCannotHaveASidecarIsWarned(t *testing.T) {
	r := ask(t, newWebhook(t), question("shop", strings.Replace(plainPod, `"spec": {`, `"spec": {"hostNetwork": true, `, 1)))
	if !r.Allowed || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "hostNetwork") || !strings.Contains(string(r.Patch), "not-injected") {
		t.Errorf("%+v, patch %s", r, r.Patch)
	}
}

func TestWhatIsNoQuestionIsABadRequest(t *testing.T) {
	w := newWebhook(t)
	server := httptest.NewServer(w.newServer().Handler)
	defer server.Close()
	post := func(method, path, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			var r admissionv1.AdmissionReview
			if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
				t.Error(err)
			}
		}
		return resp.StatusCode
	}
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"POST", "/inject", question("shop", plainPod), 200},
		{"POST", "/inject?timeout=5s", question("shop", plainPod), 200},
		{"GET", "/inject", "", 405},
		{"POST", "/", "", 404},
		{"POST", "/inject", "", 400},
		{"POST", "/inject", "{}", 400},
		{"POST", "/inject", strings.Replace(question("shop", plainPod), "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), 400},
		{"POST", "/inject", strings.Replace(question("shop", plainPod), `"uid": "u"`, `"uid": ""`, 1), 400},
		{"POST", "/inject", `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}`, 400},
		{"POST", "/inject", strings.Repeat("[", 1<<20), 400},
		{"POST", "/inject", strings.Repeat(" ", maxReview+1), 413},
		{"POST", "/inject", question("shop", `{"spec": {"containers": [{}`+strings.Repeat(",{}", maxElements)+`]}}`), 400},
		{"POST", "/inject", question("shop", `{"spec": {"containers": [null`+strings.Repeat(",null", maxElements)+`]}}`), 400},
		{"POST", "/inject", question("shop", `{"metadata": {"annotations": {"a": "\"`+strings.Repeat(",", 2*maxElements)+`"}}}`), 200},
	} {
		if code := post(c.method, c.path, c.body); code != c.code {
			t.Errorf("%s %s with %.60q is answered %d, want %d", c.method, c.path, c.body, code, c.code)
		}
	}
}

func TestTooManyQuestionsAtATimeAreToldToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebhook(t)
		var taken []func()
		for n := range maxReviews {
			giveBack, ok := w.turns.Take(t.Context(), limit.SourceOf(&net.TCPAddr{IP: net.IPv4(10, 42, 1, byte(n))}))
			if !ok {
				t.Fatal("no place")
			}
			taken = append(taken, giveBack)
		}
		answered := make(chan int)
		question := func() {
			rec := httptest.NewRecorder()
			w.serveReview(rec, httptest.NewRequestWithContext(t.Context(), "POST", "/inject", strings.NewReader(question("shop", plainPod))))
			answered <- rec.Code
		}
		go question()
		if code := <-answered; code != http.StatusServiceUnavailable {
			t.Errorf("who waited in vain is answered %d", code)
		}
		go question()
		synctest.Wait()
		taken[0]() // in time
		if code := <-answered; code != http.StatusOK {
			t.Errorf("who waited for a place is answered %d", code)
		}
	})
}

// Who asks is not known to the webhook: any pod may.
func TestAnAddressWhoseQuestionsComeSlowlyLeavesTurnsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebhook(t)
		ask := func(from string, body io.Reader) int {
			rec := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/inject", body)
			r.RemoteAddr = from
			w.serveReview(rec, r)
			return rec.Code
		}
		slow, more := io.Pipe()
		var all sync.WaitGroup
		for n := range 10 * maxReviews {
			all.Go(func() { ask(fmt.Sprintf("10.42.0.7:%d", 1000+n), slow) })
		}
		synctest.Wait()
		if code := ask("10.42.0.1:1000", strings.NewReader(question("shop", plainPod))); code != http.StatusOK {
			t.Errorf("the API server is answered %d", code)
		}
		_ = more.Close()
		all.Wait()
	})
}

func FuzzReview(f *testing.F) {
	f.Add([]byte(question("shop", plainPod)))
	f.Add([]byte(question("shop", `{"metadata": {"labels": {"isthmus.io/inject": "x"}, "annotations": {"isthmus.io/cpu-limit": "1e9"}}, "spec": {"initContainers": [{}], "volumes": [{}], "hostNetwork": true}}`)))
	f.Add([]byte(`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := newWebhook(t)
		answer, err := w.review(body)
		if err != nil {
			return
		}
		out, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		var read admissionv1.AdmissionReview
		if err := json.Unmarshal(out, &read); err != nil || read.Response == nil || read.Response.UID == "" {
			t.Fatalf("the answer %s is none: %v", out, err)
		}
		if len(read.Response.Patch) > 0 != (read.Response.PatchType != nil) || !read.Response.Allowed && read.Response.Result == nil {
			t.Fatalf("the answer %s is half of one", out)
		}
	})
}
