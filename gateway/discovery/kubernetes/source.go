package kubernetes

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config is what a [Source] is made of.
type Config struct {
	Client      *kube.Client // which is run by somebody else, after New
	TrustDomain string
	Cluster     mesh.ClusterName
	// Leads says whether this gateway is the one of its cluster that writes statuses, and
	// gives a channel that closes when that is past; nil: nobody does.
	Leads func() (bool, <-chan struct{})
	Log   *slog.Logger // nil: silent
}

// Source is a [discovery.Source]: what the API server says of this cluster's services.
// Create it with [New]; its methods may be called concurrently.
type Source struct {
	client *kube.Client
	home   home
	leads  func() (bool, <-chan struct{})
	log    *slog.Logger

	services *kube.Followed[*corev1.Service]
	slices   *kube.Followed[*discoveryv1.EndpointSlice]
	pods     *kube.Followed[*corev1.Pod]
	exports  *kube.Followed[*mcsv1beta1.ServiceExport]

	found state.Store[*found]
}

// New returns the source, and follows with the client what it needs.
func New(cfg Config) (*Source, error) {
	s := &Source{client: cfg.Client, home: home{cfg.TrustDomain, cfg.Cluster}, leads: cfg.Leads, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))}
	var err error
	if s.services, err = kube.Follow(cfg.Client, kube.Selection{}, trimService); err != nil {
		return nil, err
	}
	if s.slices, err = kube.Follow(cfg.Client, kube.Selection{Labels: discoveryv1.LabelServiceName}, trimSlice); err != nil {
		return nil, err
	}
	if s.pods, err = kube.Follow(cfg.Client, kube.Selection{}, trimPods()); err != nil {
		return nil, err
	}
	s.exports, err = kube.Follow[*mcsv1beta1.ServiceExport](cfg.Client, kube.Selection{Optional: true}, nil)
	return s, err
}

// Snapshot implements [discovery.Source].
func (s *Source) Snapshot() ([]discovery.Service, <-chan struct{}) {
	f, past := s.found.Snapshot()
	if f == nil {
		return nil, past
	}
	return f.services, past
}

// Pods returns the pods that have a sidecar, by address, and a channel that closes when
// they are past. Nil until they are known. They never change.
func (s *Source) Pods() (Pods, <-chan struct{}) {
	f, past := s.found.Snapshot()
	if f == nil {
		return nil, past
	}
	return f.pods, past
}

// Run keeps the set current until ctx ends, and writes the conditions of ServiceExports
// while this gateway leads. It returns nil.
func (s *Source) Run(ctx context.Context) error {
	var writing sync.WaitGroup
	writing.Go(func() { s.writeConditions(ctx) })
	defer writing.Wait()
	var wereReady map[podKey]bool
	var last objects
	for {
		var o objects
		var past [4]<-chan struct{}
		o.services, past[0] = s.services.Snapshot()
		o.slices, past[1] = s.slices.Snapshot()
		o.pods, past[2] = s.pods.Snapshot()
		o.exports, past[3] = s.exports.Snapshot()
		if o.services != nil && o.slices != nil && o.pods != nil && o.exports != nil && !o.sayWhat(&last) {
			last = o
			wereReady = readyPods(wereReady, o.slices)
			o.wereReady = wereReady
			f := translate(o, s.home)
			if s.found.Load() == nil {
				s.log.Info("services are known from the API server", "services", len(f.services), "pods", len(o.pods), "server", s.client.Server())
			}
			s.found.Set(&f)
		}
		published := time.Now()
		if !state.Await(ctx, past[:]...) {
			return nil
		}
		if !state.Pause(ctx, quiet-time.Since(published)) { // not at all after a while
			return nil
		}
	}
}

// trimService keeps of a Service what translate reads.
func trimService(s *corev1.Service) {
	trimMeta(s)
	s.Labels = only(s.Labels, kube.ImportLabel)
	s.Status = corev1.ServiceStatus{}
	s.Spec.Selector, s.Spec.ExternalIPs, s.Spec.LoadBalancerSourceRanges = nil, nil, nil
}

// trimSlice keeps of an EndpointSlice what translate reads.
func trimSlice(s *discoveryv1.EndpointSlice) {
	trimMeta(s)
	s.Labels = only(s.Labels, discoveryv1.LabelServiceName)
	s.Endpoints = slices.Clip(s.Endpoints)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.DeprecatedTopology, e.NodeName, e.Hostname, e.Zone, e.Hints, e.Conditions.Serving = nil, nil, nil, nil, nil, nil
		if r := e.TargetRef; r != nil {
			e.TargetRef = &corev1.ObjectReference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, UID: r.UID}
		}
	}
}

// trimPods returns what keeps of a Pod what translate reads: a change of anything else is
// none. The labels of all pods with a sidecar are one map, which nobody writes to.
func trimPods() func(*corev1.Pod) {
	meshed := map[string]string{kube.SidecarLabel: "true"}
	return func(p *corev1.Pod) {
		trimMeta(p)
		if p.Labels[kube.SidecarLabel] == "true" {
			p.Labels = meshed
		} else {
			p.Labels = nil
		}
		p.Spec = corev1.PodSpec{ServiceAccountName: p.Spec.ServiceAccountName}
		p.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs}
	}
}

// trimMeta keeps of an object's metadata what says which one it is.
func trimMeta(o kube.Object) {
	o.SetAnnotations(nil)
	o.SetOwnerReferences(nil)
	o.SetFinalizers(nil)
	o.SetResourceVersion("")
	o.SetGeneration(0)
}

// only returns labels with none but one key.
func only(labels map[string]string, key string) map[string]string {
	if value, ok := labels[key]; ok {
		return map[string]string{key: value}
	}
	return nil
}
