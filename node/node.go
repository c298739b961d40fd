package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/prom"
	"github.com/isthmus-mesh/isthmus/internal/version"
)

// proc is where processes are, the host's with its PID namespace.
const proc = "/proc"

// pinDirectory is where pins are, as the host's first process sees it.
const pinDirectory = "root/sys/fs/bpf/isthmus"

// Options are what an agent has beside its configuration.
type Options struct {
	Log     *slog.Logger          // nil discards
	Traffic interception.PodTable // what is captured of every pod
}

// Node is one agent. Run is called once.
type Node struct {
	cfg      *config.Node
	log      *slog.Logger
	registry *prometheus.Registry
	kube     *kube.Client
	pods     *kube.Followed[*corev1.Pod]
	capturer *capturer
	ready    admin.Readiness
	known    *admin.Condition // the pods of this node are
	working  *admin.Condition // every pod that can be captured is
	began    atomic.Pointer[time.Time]
}

// New makes an agent. It listens nowhere, and changes nothing.
func New(cfg *config.Node, opts Options) (*Node, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, log: opts.Log, registry: admin.NewRegistry()}
	n.known = n.ready.Condition("pods", "the API server has not told the pods of node "+cfg.Node+" yet")
	n.working = n.ready.Condition("hooks", "")
	h, err := openHost(proc)
	if err != nil {
		return nil, fmt.Errorf("look at the host: %w", err)
	}
	if n.kube, err = kube.Open(kube.Config{Kubeconfig: cfg.Kubeconfig, Log: n.log, Metrics: n.registry}); err != nil {
		return nil, err
	}
	n.pods, err = kube.Follow(n.kube, kube.Selection{Fields: "spec.nodeName=" + cfg.Node}, trim)
	if err != nil {
		return nil, err
	}
	n.capturer = &capturer{
		host: h, directory: filepath.Join(proc, "1", pinDirectory), traffic: opts.Traffic, log: n.log,
		event:  func(p *corev1.Pod, reason, message string) { n.kube.Event(p, true, reason, message) },
		pinned: map[types.UID]bool{}, refused: map[types.UID]bool{}, pods: map[types.UID]*state{},
	}
	return n, n.register()
}

// register has metrics tell what is captured.
func (n *Node) register() error {
	pods := func(state string, count func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_node_pods", Help: "Pods of this node with a sidecar: captured, or waiting for that.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(count()) })
	}
	return prom.Register(n.registry,
		pods("captured", func() int { captured, _ := n.capturer.counts(); return captured }),
		pods("waiting", func() int { _, waiting := n.capturer.counts(); return waiting }))
}

// Run captures pods until ctx ends. What is captured stays so; when nothing is, nothing of this
// program is left on the node.
func (n *Node) Run(ctx context.Context) error {
	now := time.Now()
	n.began.Store(&now)
	ports, err := admin.Bind(net.Listen, n.cfg.Listen.Admin, n.cfg.Listen.Metrics, n.cfg.Listen.Profiles)
	if err != nil {
		return err
	}
	defer ports.Close()
	names, err := interception.AttachedPods(n.capturer.directory)
	if err != nil {
		return explain(err)
	}
	for _, name := range names {
		n.capturer.pinned[types.UID(name)] = true
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		return admin.New(admin.Config{
			Ports: ports, Readiness: &n.ready, Metrics: n.registry, Log: n.log, Status: func() any { return n.status() },
		}).Run(ctx)
	})
	all.Go(func() error { return n.kube.Run(ctx) })
	all.Go(func() error { n.follow(ctx); return nil })
	n.log.Info("node agent runs", "node", n.cfg.Node, "cgroups", n.capturer.host.cgroups.root, "pods_with_hooks", len(names))
	return errors.Join(all.Wait(), interception.RemoveNodeAddresses(n.capturer.directory))
}

// Shutdown has nothing to drain: cancel Run's context.
func (n *Node) Shutdown(context.Context) error { return nil }

// follow captures the pods that the API server tells, and those that it told last while it
// is away.
func (n *Node) follow(ctx context.Context) {
	for {
		pods, past := n.pods.Snapshot()
		pause := lookPause
		if pods != nil {
			n.known.Met()
			pause = n.capturer.step(pods, time.Now())
			n.working.Set(n.capturer.faults())
		}
		select {
		case <-ctx.Done():
			return
		case <-past:
		case <-time.After(pause):
		}
	}
}

// faults says what keeps pods from being captured, if all of them have something.
func (c *capturer) faults() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	why := ""
	for _, s := range c.pods {
		if s.at != (place{}) {
			return "" // it can be done here
		}
		if s.told != "" {
			why = s.told
		}
	}
	return why
}

// status is what /status of the admin port says.
type status struct {
	Node    string      `json:"node"`
	Version string      `json:"version"`
	Uptime  float64     `json:"uptime_seconds"`
	Pods    []podStatus `json:"pods"`
}

type podStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Captured  bool   `json:"captured"`
	Error     string `json:"error,omitempty"`
}

func (n *Node) status() *status {
	s := &status{Node: n.cfg.Node, Version: version.String(), Uptime: time.Since(*n.began.Load()).Seconds(), Pods: []podStatus{}}
	c := n.capturer
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		s.Pods = append(s.Pods, podStatus{p.request.pod.Namespace, p.request.pod.Name, p.at != (place{}), p.told})
	}
	return s
}
