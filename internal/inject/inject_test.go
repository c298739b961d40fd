package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func settingsForTest() *config.Injection {
	return &config.Injection{
		Image: "registry.example/isthmus:v1", Cluster: "west", Gateways: []string{"gateway-0:15012", "gateway-1:15012"}, CA: []string{"ca:15010"},
		Interception: config.ByNode, Inbound: config.PodStrict, Drain: 10 * time.Second,
		Requests: config.Resources{CPU: "10m", Memory: "40Mi"}, Limits: config.Resources{Memory: "256Mi"},
	}
}

func newInjector(t testing.TB, cfg *config.Injection) *Injector {
	t.Helper()
	i, err := New(cfg, []identity.Fingerprint{{1}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func parse(t testing.TB, text string) *corev1.Pod {
	t.Helper()
	p, err := ParsePod([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// web is a pod with one container, what is in it, and what is beside it in the spec.
func web(container, spec string) string {
	return fmt.Sprintf(`{"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"%s}]%s}}`, container, spec)
}

func TestAPodThatCannotHaveASidecarIsLeftAndToldWhy(t *testing.T) {
	for name, c := range map[string]struct{ pod, why string }{
		"host network":  {web("", `, "hostNetwork": true`), "hostNetwork: it has no network of its own"},
		"windows":       {web("", `, "os": {"name": "windows"}`), "spec.os.name is windows"},
		"windows nodes": {web("", `, "nodeSelector": {"kubernetes.io/os": "windows"}`), "nodeSelector kubernetes.io/os is windows"},
		"other arch":    {web("", `, "nodeSelector": {"kubernetes.io/arch": "s390x"}`), "nodeSelector kubernetes.io/arch is s390x: sidecars run on amd64 and arm64"},
		"mirror":        {`{"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}`, "mirror of a node's static pod"},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, c.pod)
			p.Labels = map[string]string{SidecarLabel: "true"}
			r, err := newInjector(t, settingsForTest()).Pod(p)
			if err != nil || !strings.Contains(r.Skipped, c.why) {
				t.Fatalf("skipped because of %q, %v; want %q", r.Skipped, err, c.why)
			}
			patch, _ := json.Marshal(r.Patch)
			if !strings.Contains(string(patch), "not-injected") || !strings.Contains(string(patch), `{"op":"remove","path":"/metadata/labels/isthmus.io~1sidecar"}`) {
				t.Errorf("patch %s does not say so on the pod, or leaves the label", patch)
			}
		})
	}
}

func TestAPodThatOptsOutStaysAsItIs(t *testing.T) {
	p := parse(t, web("", ""))
	p.Labels[InjectLabel] = Disabled
	if r, err := newInjector(t, settingsForTest()).Pod(p); err != nil || len(r.Patch) > 0 || r.Skipped == "" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAPodThatWouldNotWorkIsRefusedWithWhatToWrite(t *testing.T) {
	for pod, want := range map[string]string{
		web("", `, "securityContext": {"runAsUser": 15000}`):                                                       "spec.securityContext.runAsUser is 15000, the sidecar's: what that user sends is not captured; write another",
		web(`, "securityContext": {"runAsUser": 15000}`, ""):                                                       "container web has runAsUser 15000",
		web("", `, "initContainers": [{"name": "isthmus-sidecar"}]`):                                               "a container of the pod is called isthmus-sidecar: give it another name",
		web("", `, "initContainers": [{"name": "isthmus-init"}]`):                                                  "is called isthmus-init",
		web(`, "ports": [{"containerPort": 15008}]`, ""):                                                           "container web has port 15008, at which the sidecar takes callers of the mesh: write another",
		web("", `, "dnsPolicy": "Default"`):                                                                        "spec.dnsPolicy is Default: the sidecar would not find the gateways, whose names the cluster's DNS knows; write ClusterFirst",
		web("", `, "hostUsers": false`):                                                                            "spec.hostUsers is false: the node's agent could not tell the sidecar by its user; remove it, or write annotation isthmus.io/interception: init",
		web("", `, "volumes": [{"name": "isthmus-token"}]`):                                                        "a volume of the pod is called isthmus-token",
		`{"metadata": {"labels": {"isthmus.io/inject": "false"}}}`:                                                 `label isthmus.io/inject is "false": write enabled or disabled`,
		`{"metadata": {"annotations": {"isthmus.io/inbound": "off"}}}`:                                             `annotation isthmus.io/inbound: "off" is no choice: write strict or permissive`,
		`{"metadata": {"annotations": {"isthmus.io/inbuond": "strict"}}}`:                                          "annotation isthmus.io/inbuond is not known: write one of isthmus.io/interception, isthmus.io/inbound",
		`{"metadata": {"annotations": {"isthmus.io/memory-limit": "lots"}}}`:                                       `annotation isthmus.io/memory-limit: "lots" is no amount: write one such as 64Mi, or none`,
		`{"metadata": {"annotations": {"isthmus.io/cpu-limit": "-1"}}}`:                                            `"-1" is no amount: write one such as 100m, or none`,
		`{"metadata": {"annotations": {"isthmus.io/cpu-limit": "` + strings.Repeat("1", 1000) + `"}}}`:             "is no amount",
		`{"metadata": {"annotations": {"isthmus.io/exclude-inbound-ports": "80,http"}}}`:                           `"http" is no port`,
		`{"metadata": {"annotations": {"isthmus.io/exclude-inbound-ports": "` + strings.Repeat("80,", 65) + `"}}}`: "at most 64",
		`{"metadata": {"annotations": {"isthmus.io/drain": "2h"}}}`:                                                `"2h" is no duration up to 1h`,
		`{"metadata": {"annotations": {"isthmus.io/on-failure": "open", "isthmus.io/interception": "init"}}}`:      "annotation isthmus.io/on-failure is of no use with interception init",
		`{"metadata": {"annotations": {"isthmus.io/memory-request": "1Gi"}}}`:                                      "the sidecar's request of memory 1Gi is more than its limit 256Mi: write annotation isthmus.io/memory-limit, too",
		`{"metadata": {"annotations": {"isthmus.io/memory-request": "1Gi", "isthmus.io/memory-limit": "1Mi"}}}`:    "annotation isthmus.io/memory-request: 1Gi is more than the limit 1Mi: write less",
	} {
		if r, err := newInjector(t, settingsForTest()).Pod(parse(t, pod)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.120s\n gave %+v, %v;\n want %q", pod, r, err, want)
		}
	}
}

func TestAPodWithoutTheClustersDNSIsInjectedWhereNoNameIsAsked(t *testing.T) {
	cfg := settingsForTest()
	cfg.Gateways, cfg.CA, cfg.Interception = []string{"10.0.0.5:15012", "[fd00::5]:15012"}, []string{"10.0.0.6:15010"}, config.ByInit
	injected(t, parse(t, web("", `, "dnsPolicy": "Default", "hostUsers": false`)), newInjector(t, cfg))
}

func TestEveryFaultOfAPodIsToldAtOnce(t *testing.T) {
	p := parse(t, web(`, "securityContext": {"runAsUser": 15000}, "ports": [{"containerPort": 15001}, {"containerPort": 15053, "protocol": "UDP"}]`, `, "volumes": [{"name": "isthmus-state"}]`))
	_, err := newInjector(t, settingsForTest()).Pod(p)
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three faults (a UDP port is none), got %v", err)
	}
}

// injected returns the pod as the API server has it after the patch.
func injected(t testing.TB, p *corev1.Pod, with *Injector) *corev1.Pod {
	t.Helper()
	r, err := with.Pod(p)
	if err != nil || r.Skipped != "" {
		t.Fatalf("not injected: %q, %v", r.Skipped, err)
	}
	return patched(t, p, r.Patch)
}

func TestAnInjectedPodIsLeftAsItIs(t *testing.T) {
	with := newInjector(t, settingsForTest())
	for _, pod := range []string{web("", ""), web("", `, "initContainers": [{"name": "first"}], "volumes": [{"name": "v"}]`), `{}`} {
		once := injected(t, parse(t, pod), with)
		other := settingsForTest()
		other.Image, other.Interception = "registry.example/isthmus:v2", config.ByInit
		for _, again := range []*Injector{with, newInjector(t, other)} {
			if r, err := again.Pod(once); err != nil || len(r.Patch) > 0 || r.Skipped != "" {
				t.Errorf("a second time gives %+v, %v", r, err)
			}
		}
	}
}

func TestAnotherWebhookMayPutAContainerBeforeTheSidecar(t *testing.T) {
	with := newInjector(t, settingsForTest())
	p := injected(t, parse(t, web("", "")), with)
	p.Spec.InitContainers = slices.Insert(p.Spec.InitContainers, 0, corev1.Container{Name: "somebody-elses"})
	if r, err := with.Pod(p); err != nil || len(r.Patch) > 0 {
		t.Errorf("called again, the webhook gives %+v, %v", r, err)
	}
}

func TestTheSidecarComesBeforeWhatNeedsTheNetwork(t *testing.T) {
	p := parse(t, web("", `, "initContainers": [{"name": "migrate"}]`))
	cfg := settingsForTest()
	cfg.Interception = config.ByInit
	got := injected(t, p, newInjector(t, cfg))
	var names []string
	for _, c := range got.Spec.InitContainers {
		names = append(names, c.Name)
	}
	if want := []string{InitContainer, SidecarContainer, "migrate"}; !slices.Equal(names, want) {
		t.Errorf("init containers are %v, want %v", names, want)
	}
	if got.Annotations[interceptionAnnotation] != "init" {
		t.Error("the node's agent is not told that an init container does its work")
	}
	if c := got.Spec.InitContainers[1]; c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways || c.StartupProbe == nil {
		t.Error("the sidecar is no native one that holds the others")
	}
}

func TestTheSidecarHasNoPrivileges(t *testing.T) {
	c := injected(t, parse(t, web("", "")), newInjector(t, settingsForTest())).Spec.InitContainers[0]
	want := &corev1.SecurityContext{
		RunAsUser: new(int64(UID)), RunAsGroup: new(int64(UID)), RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
		t.Error(diff)
	}
}

func TestAnnotationsOutrankTheConfiguration(t *testing.T) {
	p := parse(t, web("", ""))
	p.Annotations = map[string]string{
		"isthmus.io/interception": "init", "isthmus.io/inbound": "permissive", "isthmus.io/exclude-inbound-ports": "9090, 9091", "isthmus.io/cpu-request": "none",
		"isthmus.io/memory-limit": "20Mi", "isthmus.io/cpu-limit": "2", "isthmus.io/drain": "1m", "isthmus.io/log-level": "debug", NotInjectedAnnotation: "of before",
	}
	got := injected(t, p, newInjector(t, settingsForTest()))
	init, sidecar := got.Spec.InitContainers[0], got.Spec.InitContainers[1]
	env := map[string]string{}
	for _, e := range sidecar.Env {
		env[e.Name] = e.Value
	}
	for name, want := range map[string]string{"ISTHMUS_INTERCEPTION_INBOUND": "permissive", "ISTHMUS_DRAIN": "1m0s", "ISTHMUS_LOG_LEVEL": "debug", "GOMEMLIMIT": "18874368"} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if !slices.Contains(init.Args, "--exclude-inbound-ports=9090,9091") {
		t.Errorf("the init container's arguments are %v", init.Args)
	}
	r := sidecar.Resources
	if _, asks := r.Requests[corev1.ResourceCPU]; asks || r.Requests.Memory().String() != "20Mi" || r.Limits.Memory().String() != "20Mi" || r.Limits.Cpu().String() != "2" {
		t.Errorf("resources are %v: want no request of CPU, and that of memory no more than its limit", r)
	}
	if _, ok := got.Annotations[NotInjectedAnnotation]; ok {
		t.Error("what was said of an earlier attempt is left")
	}
}

func TestAPodWithResourcesAsAWholeSharesThemWithTheSidecar(t *testing.T) {
	p := parse(t, web(`, "resources": {"requests": {"memory": "64Mi"}}`, `, "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}}`))
	if c := injected(t, p, newInjector(t, settingsForTest())).Spec.InitContainers[0]; len(c.Resources.Requests)+len(c.Resources.Limits) > 0 {
		t.Errorf("the sidecar has %v, which the pod as a whole does not have", c.Resources)
	}
}

func TestBadAmountsInTheConfigurationNameTheirKey(t *testing.T) {
	cfg := settingsForTest()
	cfg.Limits.CPU = "many"
	if _, err := New(cfg, []identity.Fingerprint{{1}}); err == nil || !strings.HasPrefix(err.Error(), "sidecar.limits.cpu: ") {
		t.Errorf("%v", err)
	}
}
