package kubernetes

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// captureIndex is the number of the cluster of TestPodsAreCaptured: it has an agent of its
// own, which is stopped.
const captureIndex = 151

// capturing is a cluster in which pods are captured, with a gateway, and with identities from files.
type capturing struct {
	*bed.Cluster
	t   *testing.T
	w   *world
	dir string
}

func TestPodsAreCapturedByTheNodeAndByAnInitContainer(t *testing.T) {
	w := theBed(t)
	ctx := t.Context()
	cluster, err := w.bed.Start(ctx, "capture", captureIndex, bed.Full)
	if err != nil {
		t.Fatal(err)
	}
	c := &capturing{Cluster: cluster, t: t, w: w, dir: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			dir := filepath.Join(w.dir, "clusters")
			t.Logf("what the cluster said is in %s (%v)", dir, cluster.Describe(context.Background(), dir))
		}
		if err := cluster.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, image := range []string{w.image, w.probeImage} {
		if err := c.LoadImage(ctx, image); err != nil {
			t.Fatal(err)
		}
	}
	c.gateway()
	c.apply(nodeAgent + client("shop", "plain", "wait"))
	ways := []string{"node", "init"}
	for _, way := range ways {
		c.apply(c.pod("web", way, "", "serve") + c.pod("caller", way, "", "wait"))
	}
	for _, way := range ways {
		c.ready("web-" + way) // as the kubelet's probes say, which come from the node
		c.ready("caller-" + way)
	}
	c.ready("plain")
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			c := *c
			c.t = t
			c.callsByTheMesh("caller-" + way)
			c.asksOtherNames("caller-" + way)
			c.refusesPlainCallers("web-" + way)
			c.killSidecar("caller-" + way)
			c.callsByTheMesh("caller-" + way)
			c.killSidecar("web-" + way)
			c.refusesPlainCallers("web-" + way)
		})
	}
	t.Run("without the agent", c.withoutAgent)
	t.Run("afterwards", c.leavesNothing)
}

// withoutAgent stops the agent: what runs goes on, and what starts waits and says so.
func (c *capturing) withoutAgent(t *testing.T) {
	sub := *c
	c = &sub
	c.t = t
	ctx := t.Context()
	if _, err := c.Kubectl(ctx, "", "-n", "shop", "delete", "daemonset", "isthmus-node", "--cascade=foreground", "--wait"); err != nil {
		t.Fatal(err)
	}
	c.apply(c.pod("caller", "node", "-late", "wait"))
	err := c.Eventually(ctx, func(out string) error {
		if !strings.Contains(out, "programs wait") || !strings.Contains(out, "does isthmus node run on this node") {
			return fmt.Errorf("the sidecar does not say what it waits for")
		}
		return nil
	}, "-n", "shop", "logs", "caller-node-late", "-c", "isthmus-sidecar")
	if err != nil {
		t.Fatal(err)
	}
	c.callsByTheMesh("caller-node")
	c.refusesPlainCallers("web-node")
	out, err := c.Kubectl(ctx, "", "-n", "shop", "get", "pod", "caller-node-late", "-o", `jsonpath={.status.containerStatuses[0].started}`)
	if err != nil || out != "false" {
		t.Errorf("the program has started: %q, %v", out, err)
	}
	c.apply(nodeAgent)
	c.ready("caller-node-late")
	c.callsByTheMesh("caller-node-late")
	c.callsByTheMesh("caller-node")
	c.refusesPlainCallers("web-node")
}

// leavesNothing deletes all pods, whose hooks the agent removes.
func (c *capturing) leavesNothing(t *testing.T) {
	ctx := t.Context()
	pins := func() (string, error) {
		out, err := c.NodeCommand(ctx, "find", "/sys/fs/bpf/isthmus", "-mindepth", "1", "-maxdepth", "1", "-type", "d").Output()
		return string(out), err
	}
	if out, err := pins(); err != nil || strings.Count(out, "\n") != 3 {
		t.Fatalf("not the pins of three pods: %q, %v", out, err)
	}
	if _, err := c.Kubectl(ctx, "", "-n", "shop", "delete", "pods", "-l", "isthmus.io/sidecar=true", "--wait"); err != nil {
		t.Fatal(err)
	}
	err := harness.Eventually(func() error {
		if out, err := pins(); err != nil || out != "" {
			return fmt.Errorf("pins are left: %q, %v", out, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *capturing) apply(manifests string) {
	c.t.Helper()
	if err := c.Apply(c.t.Context(), manifests); err != nil {
		c.t.Fatal(err)
	}
}

func (c *capturing) ready(pod string) {
	c.t.Helper()
	if _, err := c.Kubectl(c.t.Context(), "", "-n", "shop", "wait", "--for=condition=Ready", "--timeout=120s", "pod/"+pod); err != nil {
		c.t.Fatal(err)
	}
}

// eventually is [harness.Eventually] of what the probe says that a pod runs. What is executed
// in a pod comes into its cgroup a moment late, in these clusters: without cgroup v2 of the
// machine's own.
func (c *capturing) eventually(pod string, check func(out string, err error) error, argv ...string) {
	c.t.Helper()
	err := harness.Eventually(func() error {
		out, err := c.Exec(c.t.Context(), "shop/"+pod, "", append([]string{"/probe"}, argv...)...)
		if err := check(out, err); err != nil {
			return fmt.Errorf("%s: %s: %w", pod, strings.Join(argv, " "), err)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *capturing) callsByTheMesh(pod string) {
	c.t.Helper()
	c.eventually(pod, func(out string, err error) error {
		if err == nil && !strings.Contains(out, "/ns/shop/sa/caller") {
			err = fmt.Errorf("the program was called by somebody else")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}, "get", "http://web.shop.mesh/")
}

func (c *capturing) asksOtherNames(pod string) {
	c.t.Helper()
	c.eventually(pod, func(out string, err error) error {
		if err != nil || !strings.Contains(out, "10.43.0.1") {
			return fmt.Errorf("%q, %v", out, err)
		}
		return nil
	}, "lookup", "kubernetes.default.svc.cluster.local")
}

// refusesPlainCallers calls a pod as one without a sidecar does, at a port that is served and
// at one that is not.
func (c *capturing) refusesPlainCallers(pod string) {
	c.t.Helper()
	ctx := c.t.Context()
	address := func(pod string) string {
		out, err := c.Kubectl(ctx, "", "-n", "shop", "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
		if err != nil {
			c.t.Fatal(err)
		}
		return out
	}
	to, from := address(pod), address("plain")
	c.eventually("plain", func(out string, err error) error {
		if err == nil || !strings.Contains(out+err.Error(), "403") {
			return fmt.Errorf("%q, %v, want a 403", out, err)
		}
		return nil
	}, "get", "http://"+to+":8080/")
	if out, err := c.Exec(ctx, "shop/plain", "", "/probe", "get", "http://"+to+":9000/"); err == nil || !strings.Contains(err.Error(), "403") {
		c.t.Errorf("a port that is not served: %q, %v", out, err)
	}
	err := c.Eventually(ctx, func(log string) error {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "refused a caller") && strings.Contains(line, from+":") && strings.Contains(line, to+":8080") && strings.Contains(line, "isthmus.io/inbound: permissive") {
				return nil
			}
		}
		return fmt.Errorf("no line says that %s was refused, and the way out", from)
	}, "-n", "shop", "logs", pod, "-c", "isthmus-sidecar")
	if err != nil {
		c.t.Error(err)
	}
}

// killSidecar kills a pod's sidecar; the kubelet starts it again.
func (c *capturing) killSidecar(pod string) {
	c.t.Helper()
	ctx := c.t.Context()
	id, err := c.Kubectl(ctx, "", "-n", "shop", "get", "pod", pod, "-o", `jsonpath={.status.initContainerStatuses[?(@.name=="isthmus-sidecar")].containerID}`)
	if err != nil {
		c.t.Fatal(err)
	}
	id = strings.TrimPrefix(id, "containerd://")
	out, err := c.NodeCommand(ctx, c.w.bed.Program("ctr"), "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	err = c.Eventually(ctx, func(now string) error {
		if strings.Contains(now, id) || !strings.HasSuffix(now, "true") {
			return fmt.Errorf("the sidecar is not there again")
		}
		return nil
	}, "-n", "shop", "get", "pod", pod, "-o", `jsonpath={.status.initContainerStatuses[?(@.name=="isthmus-sidecar")].containerID} {.status.initContainerStatuses[?(@.name=="isthmus-sidecar")].started}`)
	if err != nil {
		c.t.Fatal(err)
	}
}

// secret is a Secret of the shop with the files of a directory.
func (c *capturing) secret(name, dir string) {
	c.t.Helper()
	if _, err := c.Kubectl(c.t.Context(), "", "-n", "shop", "create", "secret", "generic", name, "--from-file="+dir); err != nil {
		c.t.Fatal(err)
	}
}

// gateway starts the cluster's gateway, and makes the identities of the pods.
func (c *capturing) gateway() {
	c.t.Helper()
	pki := filepath.Join(c.dir, "pki")
	c.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
	for _, args := range [][]string{
		{"init", "--trust-domain", "capture.example"},
		{"cluster", "capture"},
		{"gateway", "--cluster", "capture", "gw", "-o", filepath.Join(c.dir, "gw")},
		{"workload", "--cluster", "capture", "shop/web", "-o", filepath.Join(c.dir, "web")},
		{"workload", "--cluster", "capture", "shop/caller", "-o", filepath.Join(c.dir, "caller")},
	} {
		if _, err := harness.Isthmus(c.w.isthmus, append(append([]string{"pki"}, args...), "-d", pki)...); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, name := range []string{"gw", "web", "caller"} {
		c.secret(name, filepath.Join(c.dir, name))
	}
	c.apply(captureGateway)
	c.ready("gateway")
}

const captureGateway = `
apiVersion: v1
kind: Pod
metadata: {name: gateway, namespace: shop, labels: {app: gateway}}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 65532, runAsUser: 65532, runAsGroup: 65532}
  containers:
  - name: gateway
    image: test/isthmus:dev
    imagePullPolicy: Never
    args: [gateway, --cluster=capture, --name=gw, "--advertise=gw.example:7443", --identity-dir=/pki, --state=/state]
    volumeMounts: [{name: pki, mountPath: /pki}, {name: state, mountPath: /state}]
  volumes: [{name: pki, secret: {secretName: gw, defaultMode: 0440}}, {name: state, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: shop}
spec: {selector: {app: gateway}, ports: [{name: xds, port: 15012}, {name: mesh, port: 15443}]}
`

// nodeAgent is as the chart has it.
const nodeAgent = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: isthmus-node, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: isthmus-node}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [events], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: isthmus-node}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: isthmus-node}
subjects: [{kind: ServiceAccount, name: isthmus-node, namespace: shop}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: isthmus-node, namespace: shop}
spec:
  selector: {matchLabels: {app: node}}
  template:
    metadata: {labels: {app: node}}
    spec:
      serviceAccountName: isthmus-node
      terminationGracePeriodSeconds: 1
      enableServiceLinks: false
      hostPID: true
      containers:
      - name: node
        image: test/isthmus:dev
        imagePullPolicy: Never
        args: [node, "--listen-metrics=:15020"]
        env: [{name: ISTHMUS_NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /readyz, port: 15020}, periodSeconds: 1}
        securityContext:
          runAsUser: 0
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL], add: [BPF, NET_ADMIN, PERFMON, SYS_PTRACE]}
          appArmorProfile: {type: Unconfined}
          seccompProfile: {type: RuntimeDefault}
---
`

// pod is NAME-WAY with a sidecar, and with the identity of NAME. web serves.
func (c *capturing) pod(name, way, suffix, program string) string {
	service, probes, init := "", "", ""
	if name == "web" {
		service = `service: {name: shop/web, target: "127.0.0.1:8080", protocol: http}`
		probes = `
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}`
	}
	if way == "init" {
		init = `
  - name: isthmus-init
    image: test/isthmus:dev
    imagePullPolicy: Never
    args: [intercept, pod, "--node-addresses=$(NODE_ADDRESSES)"]
    env: [{name: NODE_ADDRESSES, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}]
    securityContext: {runAsUser: 0, runAsGroup: 0, runAsNonRoot: false, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL], add: [NET_ADMIN]}, seccompProfile: {type: RuntimeDefault}}`
	}
	return strings.NewReplacer("NAME", name, "POD", name+"-"+way+suffix, "BY_", way, "SERVICE", service, "PROBES", probes, "INIT", init, "PROGRAM", program).Replace(`
apiVersion: v1
kind: ConfigMap
metadata: {name: POD, namespace: shop}
data:
  sidecar.yaml: |
    gateways: [gateway.shop.svc.cluster.local]
    identity: {dir: /pki}
    interception: {mode: pod}
    listen: {metrics: ":15021"}
    SERVICE
---
apiVersion: v1
kind: Pod
metadata:
  name: POD
  namespace: shop
  labels: {isthmus.io/sidecar: "true"}
  annotations: {isthmus.io/interception: BY_}
spec:
  terminationGracePeriodSeconds: 2
  enableServiceLinks: false
  securityContext: {fsGroup: 15000}
  initContainers:INIT
  - name: isthmus-sidecar
    image: test/isthmus:dev
    imagePullPolicy: Never
    restartPolicy: Always
    args: [sidecar, -c, /etc/isthmus/sidecar.yaml]
    startupProbe: {httpGet: {path: /startz, port: 15021}, periodSeconds: 1, failureThreshold: 3600}
    securityContext: {runAsUser: 15000, runAsGroup: 15000, runAsNonRoot: true, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
    volumeMounts: [{name: pki, mountPath: /pki}, {name: config, mountPath: /etc/isthmus}, {name: state, mountPath: /var/lib/isthmus}]
  containers:
  - name: program
    image: test/probe:dev
    imagePullPolicy: Never
    args: [PROGRAM]PROBES
  volumes: [{name: pki, secret: {secretName: NAME, defaultMode: 0440}}, {name: config, configMap: {name: POD}}, {name: state, emptyDir: {medium: Memory}}]
---
`)
}
