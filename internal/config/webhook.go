package config

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Webhook is the configuration of a process that gives pods their sidecars. What
// [LoadWebhook] returns is complete: every default is filled in and every address has a
// port.
type Webhook struct {
	// What pods get. 'isthmus inject' reads this and nothing else of the file.
	Sidecar Injection `yaml:"sidecar"`
	// The namespace of this process, with its Secret and its Service. Default: that of its
	// service account.
	Namespace string `yaml:"namespace" flag:"namespace of this process"`
	// The Secret of its namespace in which the certificate authority of all replicas is
	// kept. It has to exist, and may be empty: the first replica fills it.
	Secret string `yaml:"secret" flag:"Secret in which the webhook's certificate authority is kept"`
	// The Service of its namespace by which the API server calls: its certificate has that
	// name.
	Service string `yaml:"service" flag:"Service by which the API server calls the webhook"`
	// The MutatingWebhookConfiguration whose caBundle is kept up to date.
	WebhookConfiguration string `yaml:"webhookConfiguration" flag:"MutatingWebhookConfiguration whose caBundle is kept up to date"`
	// Which API server is spoken with.
	Kubernetes WebhookKubernetes `yaml:"kubernetes"`
	// Where the webhook listens.
	Listen WebhookListen `yaml:"listen"`
	// How long running calls may take to finish at shutdown, up to 1h.
	Drain time.Duration `yaml:"drain" flag:"how long running calls may take at shutdown"`
	// What is logged, to standard error.
	Log Log `yaml:"log"`
}

// WebhookKubernetes says which API server a webhook speaks with.
type WebhookKubernetes struct {
	// A kubeconfig file, whose current context counts. Default: the API server of the cluster
	// that this process is a pod of, as its service account.
	Kubeconfig string `yaml:"kubeconfig" flag:"kubeconfig file of the API server"`
}

// WebhookListen are the addresses that a webhook listens on, as host:port; an empty host is
// every interface.
type WebhookListen struct {
	// TCP: admission reviews, HTTP over TLS.
	Webhook string `yaml:"webhook" flag:"address of the port that the API server calls"`
	// TCP: health, metrics and status. It has no authentication: keep it on loopback.
	Admin string `yaml:"admin" flag:"address of the admin port"`
	// TCP, for Prometheus and probes on other hosts: /metrics, /livez and /readyz and
	// nothing else of the admin port. Default: none.
	Metrics string `yaml:"metrics" flag:"address for /metrics, /livez and /readyz alone"`
	// TCP: Go's profiles, at /debug/pprof/. They tell what is in memory: keep it on
	// loopback. Default: none.
	Profiles string `yaml:"profiles" flag:"address for Go's profiles"`
}

// Injection is what a pod gets: its sidecar, and what that has to know. Annotations of the
// pod outrank the part of it that is about one pod.
type Injection struct {
	// The image of the sidecar. Required.
	Image string `yaml:"image" flag:"image of the sidecar"`
	// When the node pulls it: Always, IfNotPresent or Never. Default: what Kubernetes does,
	// Always for the tag latest and IfNotPresent for others.
	ImagePullPolicy PullPolicy `yaml:"imagePullPolicy" flag:"Always, IfNotPresent or Never"`
	// The cluster whose pods they are. Required: the CA of another one has the same root, and
	// is shown no token.
	Cluster mesh.ClusterName `yaml:"cluster" flag:"cluster whose pods they are"`
	// host or host:port of this cluster's gateways, as pods reach them; at least one. Port
	// 15012 when left out.
	Gateways []string `yaml:"gateways" flag:"host:port of this cluster's gateways"`
	// host or host:port of this cluster's CAs, as pods reach them; at least one. Port 15010
	// when left out.
	CA []string `yaml:"ca" flag:"host:port of this cluster's CAs"`
	// A PEM file with the roots of the mesh, roots.pem of isthmus pki. Pods are told their
	// fingerprints, and trust nobody else at first. It is watched. Required.
	Roots string `yaml:"roots" flag:"PEM file with the roots that pods trust at first"`
	// Who has the pod's connections go to its sidecar: node, the agent of the pod's node
	// (isthmus node), or init, an init container that may change the pod's network.
	Interception PodInterception `yaml:"interception" flag:"node or init"`
	// What becomes of callers of the program's ports that come past the mesh: strict
	// refuses them, permissive serves them where the service's policy allows anonymous.
	Inbound PodInbound `yaml:"inbound" flag:"what callers that come past the mesh meet: strict or permissive"`
	// What the sidecar asks the scheduler for.
	Requests Resources `yaml:"requests"`
	// What the sidecar may use at most.
	Limits Resources `yaml:"limits"`
	// How long the sidecar's running exchanges may take to finish once the program has
	// ended. It is a part of the pod's terminationGracePeriodSeconds.
	Drain time.Duration `yaml:"drain" flag:"how long a sidecar's running exchanges may take at shutdown"`
	// What sidecars log: debug, info, warn or error.
	LogLevel LogLevel `yaml:"logLevel" flag:"debug, info, warn or error: what sidecars log"`
}

// Resources are amounts as Kubernetes writes them. An empty one is not said.
type Resources struct {
	// Cores, such as 100m.
	CPU string `yaml:"cpu" flag:"cores, such as 100m"`
	// Bytes, such as 64Mi.
	Memory string `yaml:"memory" flag:"bytes, such as 64Mi"`
}

// PullPolicy is when a node pulls an image.
type PullPolicy string

// The choices.
const (
	PullAlways       PullPolicy = "Always"
	PullIfNotPresent PullPolicy = "IfNotPresent"
	PullNever        PullPolicy = "Never"
)

// UnmarshalText reads the name of a policy.
func (p *PullPolicy) UnmarshalText(b []byte) error { return choose(p, b) }

// Choices returns the words.
func (PullPolicy) Choices() []PullPolicy {
	return []PullPolicy{PullAlways, PullIfNotPresent, PullNever}
}

// PodInterception is who has a pod's connections go to its sidecar.
type PodInterception string

// The choices.
const (
	ByNode PodInterception = "node"
	ByInit PodInterception = "init"
)

// UnmarshalText reads "node" or "init".
func (p *PodInterception) UnmarshalText(b []byte) error { return choose(p, b) }

// Choices returns the words.
func (PodInterception) Choices() []PodInterception { return []PodInterception{ByNode, ByInit} }

// PodInbound is what callers of a pod's program meet that come past the mesh.
type PodInbound string

// The choices.
const (
	PodStrict     PodInbound = "strict"
	PodPermissive PodInbound = "permissive"
)

// UnmarshalText reads "strict" or "permissive".
func (p *PodInbound) UnmarshalText(b []byte) error { return choose(p, b) }

// Choices returns the words.
func (PodInbound) Choices() []PodInbound { return []PodInbound{PodStrict, PodPermissive} }

const (
	// WebhookPort is where the API server calls a webhook.
	WebhookPort = 9443
	// WebhookAdminPort is a webhook's admin port, on loopback.
	WebhookAdminPort = 15017
)

// webhookDefaults are what a file need not say.
func webhookDefaults() *Webhook {
	return &Webhook{
		Sidecar: Injection{
			Interception: ByNode, Inbound: PodStrict, Drain: defaultDrain,
			// What a sidecar needs that does little; the limit is what one needs that relays a lot.
			Requests: Resources{CPU: "10m", Memory: "40Mi"}, Limits: Resources{Memory: "256Mi"},
		},
		Secret: "isthmus-webhook", Service: "isthmus-webhook", WebhookConfiguration: "isthmus",
		Listen: WebhookListen{Webhook: ":9443", Admin: "127.0.0.1:15017"},
		Drain:  defaultDrain,
		Log:    Log{Format: LogText},
	}
}

// complete fills in what was left out and tells c what is wrong.
func (w *Webhook) complete(c *completer) {
	w.Sidecar.complete(c, "sidecar")
	if w.Namespace != "" {
		c.label("namespace", w.Namespace, "")
	}
	c.label("secret", w.Secret, "write the Secret's name, such as isthmus-webhook")
	c.label("service", w.Service, "write the Service's name, such as isthmus-webhook")
	c.label("webhookConfiguration", w.WebhookConfiguration, "write the configuration's name, such as isthmus")
	c.path("kubernetes.kubeconfig", &w.Kubernetes.Kubeconfig)
	c.listen("listen.webhook", &w.Listen.Webhook, WebhookPort, false)
	c.listen("listen.admin", &w.Listen.Admin, WebhookAdminPort, true)
	c.listenIfSet("listen.metrics", &w.Listen.Metrics, false)
	c.listenIfSet("listen.profiles", &w.Listen.Profiles, true)
	c.drain(w.Drain)
}

func (i *Injection) complete(c *completer, key string) {
	if i.Image == "" {
		c.fault(key+".image", "is missing: write the image that sidecars run, such as registry.example/isthmus:v1")
	}
	c.label(key+".cluster", string(i.Cluster), "write this cluster's name, such as west")
	if len(i.Gateways) == 0 {
		c.fault(key+".gateways", "is missing: write the addresses of this cluster's gateways, such as [isthmus-gateway-0.isthmus-gateway.isthmus-system.svc]")
	}
	c.dials(key+".gateways", &i.Gateways, XDSPort, "isthmus-gateway-0.isthmus-gateway.isthmus-system.svc:15012")
	if len(i.CA) == 0 {
		c.fault(key+".ca", "is missing: write the addresses of this cluster's CAs, such as [isthmus-ca.isthmus-system.svc]")
	}
	c.dials(key+".ca", &i.CA, CAPort, "isthmus-ca.isthmus-system.svc:15010")
	if i.Roots == "" {
		c.fault(key+".roots", "is missing: write the file of the mesh's roots, such as /etc/isthmus/roots/roots.pem")
	}
	c.path(key+".roots", &i.Roots)
	if i.Drain < 0 || i.Drain > maxDrain {
		c.fault(key+".drain", "%s is out of range: write 0s to %s", i.Drain, maxDrain)
	}
}
