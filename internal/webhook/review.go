package webhook

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	strictjson "sigs.k8s.io/json"

	"github.com/isthmus-mesh/isthmus/internal/inject"
)

// serveReview answers one question of the API server.
func (w *Webhook) serveReview(rw http.ResponseWriter, r *http.Request) {
	giveBack, ok := w.takeTurn(r)
	if !ok {
		w.metrics.busy.Inc()
		http.Error(rw, "too many reviews at a time: ask again", http.StatusServiceUnavailable)
		return
	}
	defer giveBack()
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxReview))
	if err != nil {
		w.metrics.bad.Inc()
		code := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(rw, "read the review: "+err.Error(), code)
		return
	}
	answer, err := w.review(body)
	if err != nil {
		w.metrics.bad.Inc()
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(answer) // who asked is gone
}

// crowded reports whether JSON has more elements than any pod: each may become a container,
// which takes a hundred times the memory of its text. What is in texts does not count.
func crowded(body []byte) bool {
	elements, inText := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '\\' && inText:
			i++
		case c == '"':
			inText = !inText
		case c == ',' && !inText:
			elements++
		}
	}
	return elements > maxElements
}

// review answers a question; the error is what is no question.
func (w *Webhook) review(body []byte) (*admissionv1.AdmissionReview, error) {
	if crowded(body) {
		return nil, fmt.Errorf("has more than %d elements", maxElements)
	}
	var asked admissionv1.AdmissionReview
	if err := strictjson.UnmarshalCaseSensitivePreserveInts(body, &asked); err != nil {
		return nil, fmt.Errorf("is no AdmissionReview: %w", err)
	}
	want := admissionv1.SchemeGroupVersion.WithKind("AdmissionReview")
	switch {
	case asked.GroupVersionKind() != want:
		return nil, fmt.Errorf("is %s: ask with %s", asked.GroupVersionKind(), want)
	case asked.Request == nil || asked.Request.UID == "":
		return nil, errors.New("has no request with a uid")
	}
	answer := w.answer(asked.Request)
	answer.UID = asked.Request.UID
	return &admissionv1.AdmissionReview{TypeMeta: asked.TypeMeta, Response: answer}, nil
}

// podKind is what is asked about.
func podKind() metav1.GroupVersionKind {
	return metav1.GroupVersionKind(schema.GroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod")))
}

// answer says what becomes of one pod. What is no new pod, and what is in a namespace that
// the mesh needs for itself, is left as it is, whatever the configuration of the API
// server says: an answer that blocks those could not be undone.
func (w *Webhook) answer(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	allowed := &admissionv1.AdmissionResponse{Allowed: true}
	if r.Kind != podKind() || r.Operation != admissionv1.Create || r.SubResource != "" || r.Namespace == w.namespace || r.Namespace == metav1.NamespaceSystem {
		w.metrics.unchanged.Inc()
		return allowed
	}
	pod, err := inject.ParsePod(r.Object.Raw)
	var result inject.Result
	if err == nil {
		result, err = w.injector.Load().Pod(pod)
	}
	name := r.Name
	if name == "" && pod != nil {
		name = cmp.Or(pod.Name, pod.GenerateName+"…")
	}
	log := w.log.With("pod", r.Namespace+"/"+name)
	if err != nil {
		w.metrics.refused.Inc()
		log.Info("a pod is refused", "err", err)
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
			Message: "isthmus: " + strings.ReplaceAll(err.Error(), "\n", "; ") + " (without a sidecar: label " + inject.InjectLabel + ": " + inject.Disabled + ")",
		}}
	}
	if len(result.Patch) > 0 {
		patch, err := json.Marshal(result.Patch)
		if err != nil { // a mistake of ours
			panic(err)
		}
		allowed.Patch, allowed.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
	}
	switch {
	case result.Skipped != "":
		w.metrics.skipped.Inc()
		log.Info("a pod has no sidecar", "why", result.Skipped)
		allowed.Warnings = []string{"isthmus: the pod gets no sidecar: " + result.Skipped}
	case len(result.Patch) > 0:
		w.metrics.injected.Inc()
		log.Debug("a pod has a sidecar")
	default:
		w.metrics.unchanged.Inc()
	}
	return allowed
}
