package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
)

// api is an API server of a few Services in one namespace, a Lease and Events.
type api struct {
	t          *testing.T
	server     *httptest.Server
	kubeconfig string

	mu       sync.Mutex
	version  int
	services map[string]string // annotation x of each
	changed  chan struct{}     // closes when they change
	away     bool
	lease    *coordinationv1.Lease
	events   []corev1.Event
}

func newAPI(t *testing.T) (*api, *Client) {
	t.Helper()
	a := &api{t: t, services: map[string]string{}, changed: make(chan struct{}), version: 1}
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n", a.server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.kubeconfig = kubeconfig
	return a, a.client("")
}

// client returns another one, which keeps what it follows in a file; empty: nowhere.
func (a *api) client(keep string) *Client {
	a.t.Helper()
	c, err := Open(Config{Kubeconfig: a.kubeconfig, Metrics: prometheus.NewRegistry(), Keep: keep})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// change puts services in place of those that there are; away: nobody is answered.
func (a *api) change(away bool, services map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.away, a.services = away, services
	close(a.changed)
	a.changed = make(chan struct{})
	if away {
		a.server.CloseClientConnections()
	}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	away := a.away
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case away:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/api/v1/services" && r.URL.Query().Get("watch") != "":
		a.watch(w, r)
	case strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/v1/namespaces/sys/leases"):
		a.serveLease(w, r)
	case strings.HasSuffix(r.URL.Path, "/events"):
		var e corev1.Event
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &e); err != nil {
			a.t.Error(err)
		}
		a.mu.Lock()
		a.events = append(a.events, e)
		a.mu.Unlock()
		_, _ = w.Write(body)
	default:
		a.refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	}
}

func (a *api) refuse(w http.ResponseWriter, code int32, reason metav1.StatusReason) {
	w.WriteHeader(int(code))
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: code, Reason: reason, Message: string(reason)})
}

// watch streams all services, a bookmark and then changes, as an API server does for
// sendInitialEvents.
func (a *api) watch(w http.ResponseWriter, r *http.Request) {
	sent := map[string]string{}
	first := r.URL.Query().Get("sendInitialEvents") == "true"
	for {
		a.mu.Lock()
		services, changed, version, away := a.services, a.changed, a.version, a.away
		a.mu.Unlock()
		if away {
			return
		}
		tell := func(kind, name, x string, notes map[string]string) {
			s := corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: name, ResourceVersion: fmt.Sprint(version), Annotations: notes, Labels: map[string]string{"x": x}}}
			_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": s})
		}
		for name, x := range services {
			if was, known := sent[name]; !known {
				tell("ADDED", name, x, nil)
			} else if was != x {
				tell("MODIFIED", name, x, nil)
			}
			sent[name] = x
		}
		for name := range sent {
			if _, there := services[name]; !there {
				tell("DELETED", name, sent[name], nil)
				delete(sent, name)
			}
		}
		if first {
			tell("BOOKMARK", "", "", map[string]string{metav1.InitialEventsAnnotationKey: "true"})
			first = false
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (a *api) serveLease(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var l coordinationv1.Lease
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
			a.t.Error(err)
		}
		if a.lease != nil && l.ResourceVersion != a.lease.ResourceVersion {
			a.refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
			return
		}
		a.version++
		l.TypeMeta, l.ResourceVersion = metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}, fmt.Sprint(a.version)
		a.lease = &l
	}
	if a.lease == nil {
		a.refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(a.lease)
}

// until waits for a snapshot that says what is wanted: name=x of each object, in order.
func until(t *testing.T, f *Followed[*corev1.Service], want string) []*corev1.Service {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		all, past := f.Snapshot()
		got := []string{}
		for _, s := range all {
			got = append(got, s.Name+"="+s.Labels["x"])
		}
		if all != nil && strings.Join(got, " ") == want {
			return all
		}
		select {
		case <-past:
		case <-late:
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func run(t *testing.T, c *Client) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { <-done })
}

func TestAFollowedSetIsWholeAndStaysWhenTheAPIServerIsAway(t *testing.T) {
	a, c := newAPI(t)
	a.change(false, map[string]string{"b": "1", "a": "1"})
	f, err := Follow(c, Selection{}, func(s *corev1.Service) { s.ResourceVersion = "" })
	if err != nil {
		t.Fatal(err)
	}
	if all, _ := f.Snapshot(); all != nil {
		t.Error("something is known before anybody was asked")
	}
	if s := c.State(); len(s) != 1 || s[0].Known || s[0].Lost.IsZero() {
		t.Errorf("%+v", s)
	}
	run(t, c)
	first := until(t, f, "a=1 b=1")
	a.change(false, map[string]string{"b": "2", "c": "1"})
	until(t, f, "b=2 c=1")
	if len(first) != 2 || first[0].Name != "a" || first[1].Labels["x"] != "1" {
		t.Error("a set that was handed out has changed")
	}
	if s := c.State()[0]; s.Kind != "services" || !s.Known || s.Objects != 2 || !s.Lost.IsZero() || s.Err != "" {
		t.Errorf("%+v", s)
	}

	a.change(true, nil)
	eventually(t, func() bool { s := c.State()[0]; return !s.Lost.IsZero() && s.Err != "" })
	until(t, f, "b=2 c=1")
	a.change(false, map[string]string{"d": "1"})
	until(t, f, "d=1")
	eventually(t, func() bool { s := c.State()[0]; return s.Lost.IsZero() && s.Err == "" })
}

// eventually waits for what another goroutine does about it.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for late := time.After(20 * time.Second); !holds(); {
		select {
		case <-late:
			t.Fatal("it never holds")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestAKindThatIsNotInstalledIsEmptyIfItMayBe(t *testing.T) {
	_, c := newAPI(t)
	may, err := Follow[*mcsv1beta1.ServiceExport](c, Selection{Optional: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	must, err := Follow[*mcsv1beta1.ServiceImport](c, Selection{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	eventually(t, func() bool {
		all, _ := may.Snapshot()
		return all != nil && len(all) == 0 && strings.Contains(c.State()[1].Err, "install its CustomResourceDefinition")
	})
	if all, _ := must.Snapshot(); all != nil {
		t.Error("a kind that is not there is known")
	}
	if s := c.State(); !s[0].Known || s[1].Known || !s[0].Lost.IsZero() || s[1].Lost.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestAChangeOfWhatIsTrimmedIsNone(t *testing.T) {
	s := newSet(func(s *corev1.Service) { s.ResourceVersion, s.Annotations = "", nil })
	object := func(version, x string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: version, Annotations: map[string]string{"v": version}, Labels: map[string]string{"x": x}}}
	}
	if err := s.Replace([]any{object("1", "1")}, "1"); err != nil {
		t.Fatal(err)
	}
	_, past := s.snapshot()
	if err := s.Update(object("2", "1")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-past:
		t.Error("a change of annotations is one")
	default:
	}
	if err := s.Update(object("3", "2")); err != nil {
		t.Fatal(err)
	}
	<-past
	if err := s.Add(&corev1.Pod{}); err == nil {
		t.Error("a Pod is a Service")
	}
}

func TestWhatIsKnownOfAKindStaysWhenTheAPIServerDeniesToHaveIt(t *testing.T) {
	s := newSet[*corev1.Service](nil)
	if err := s.Replace([]any{&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}, "1"); err != nil {
		t.Fatal(err)
	}
	if all, _ := s.snapshot(); s.none() || len(all) != 1 {
		t.Errorf("%d objects are left", len(all))
	}
	if err := s.Delete(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	if all, _ := s.snapshot(); !s.none() || len(all) != 0 {
		t.Errorf("%d objects are left", len(all))
	}
}

func TestALeaseIsHeldByOneAndTakenOverWhenItIsNotRenewed(t *testing.T) {
	a, c := newAPI(t)
	one, two := c.Lease("sys", "gateway", "one"), c.Lease("sys", "gateway", "two")
	now := time.Unix(1700000000, 0)
	look := func(l *Lease, after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		_ = l.once(t.Context(), now) // a conflict is an error and no news
		if held, _ := l.Held(); held != want {
			t.Errorf("%s holds it: %v, want %v", l.self, held, want)
		}
	}
	look(one, 0, true)
	look(two, time.Second, false)
	look(one, 10*time.Second, true)
	look(two, 10*time.Second, false) // it was renewed since
	look(two, leaseFor-time.Second, false)
	look(two, time.Second, true)
	look(one, time.Second, false) // it comes back too late
	if got := *a.lease.Spec.LeaseTransitions; got != 2 {
		t.Errorf("%d transitions, want 2", got)
	}
	if err := two.giveBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	look(one, time.Second, true) // at once
}

func TestTheSameEventIsWrittenOnce(t *testing.T) {
	a, c := newAPI(t)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders", UID: "u"}}
	for range 3 {
		c.Event(s, true, "Invalid", "first")
		c.Event(s, false, "Invalid", "second "+strings.Repeat("x", 2000))
	}
	run(t, c)
	eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.events) == 2
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	first, second := a.events[0], a.events[1]
	if first.Type != "Warning" || first.InvolvedObject.Kind != "Service" || first.InvolvedObject.APIVersion != "v1" || first.InvolvedObject.UID != "u" || first.Namespace != "shop" || second.Type != "Normal" || len(second.Message) != 1024 {
		t.Errorf("%+v\n%+v", first, second)
	}
	for range 2 * maxEvents { // nobody takes them: what does not fit is dropped, and nobody waits
		c.Event(s, true, "Invalid", fmt.Sprint(time.Now().UnixNano()))
	}
}

func TestOnlyTheStatusIsAppliedAsStatusAndOnlyTheRestElsewhere(t *testing.T) {
	_, c := newAPI(t)
	x := &mcsv1beta1.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders", UID: "u", Labels: map[string]string{"a": "b"}, ResourceVersion: "7"},
		Spec: mcsv1beta1.ServiceExportSpec{ExportedLabels: map[string]string{"c": "d"}}, Status: mcsv1beta1.ServiceExportStatus{Conditions: []metav1.Condition{{Type: "Valid"}}}}
	w, err := c.where(x)
	if err != nil {
		t.Fatal(err)
	}
	for subresource, want := range map[string]string{
		"status": `{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceExport","metadata":{"name":"orders","namespace":"shop","uid":"u"},"status":{"conditions":[{"type":"Valid","status":"","lastTransitionTime":null,"reason":"","message":""}]}}`,
		"":       `{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceExport","metadata":{"labels":{"a":"b"},"name":"orders","namespace":"shop","uid":"u"},"spec":{"exportedLabels":{"c":"d"}}}`,
	} {
		if got, err := applyBody(w, x, subresource); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v, want %s", subresource, got, err, want)
		}
	}
}

func TestWhoIsInNoPodNamesAKubeconfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for kubeconfig, want := range map[string]string{"": "in no pod: name a kubeconfig", "/nowhere/config": "/nowhere/config"} {
		if _, err := Open(Config{Kubeconfig: kubeconfig}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", kubeconfig, err, want)
		}
	}
}

func TestConditionsKeepTheTimeOfTheirStatus(t *testing.T) {
	was := []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "A", LastTransitionTime: metav1.NewTime(time.Unix(1, 0))}}
	next, changed := SetConditions(was, Condition("Ready", true, "A", "", 0))
	if changed || len(next) != 1 {
		t.Errorf("%+v, changed %v", next, changed)
	}
	next, changed = SetConditions(was, Condition("Ready", true, "B", "", 2), Condition("Valid", false, "C", "", 2))
	if !changed || len(next) != 2 || !next[0].LastTransitionTime.Equal(&was[0].LastTransitionTime) || next[0].ObservedGeneration != 2 || was[0].Reason != "A" {
		t.Errorf("%+v, changed %v", next, changed)
	}
	if next, changed = SetConditions(was, Condition("Ready", false, "A", "", 0)); !changed || next[0].LastTransitionTime.Equal(&was[0].LastTransitionTime) {
		t.Errorf("%+v, changed %v", next, changed)
	}
}
