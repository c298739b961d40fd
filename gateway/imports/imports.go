package imports

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config is what an Imports needs.
type Config struct {
	Client *kube.Client
	// Cluster is the own one.
	Cluster mesh.ClusterName
	// Gateways are the EndpointSlices of the Service of this cluster's gateways.
	Gateways *kube.Followed[*discoveryv1.EndpointSlice]
	// Lease decides which gateway writes.
	Lease *kube.Lease
	// Owner is a ClusterRole with which all that is written goes away, as when Isthmus is
	// uninstalled; empty, or there is none: nothing goes.
	Owner string
	// Ports are those of the entrance; zero: there is none.
	Ports Range
	// Want is told on which ports which services are called; nil: nobody is.
	Want func(map[uint16]mesh.Destination)

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: not registered
}

// Imports writes what the mesh offers into a Kubernetes cluster. Its methods are safe for
// concurrent use.
type Imports struct {
	cfg     Config
	metrics *metrics
	offers  state.Store[*offers]

	namespaces *kube.Followed[*corev1.Namespace]
	imports    *kube.Followed[*mcs.ServiceImport]
	exports    *kube.Followed[*mcs.ServiceExport]
	derived    *kube.Followed[*corev1.Service]
	slices     *kube.Followed[*discoveryv1.EndpointSlice]

	resting resting // of Run
}

// offers is what the mesh offers, as this gateway knows it.
type offers struct {
	byService map[mesh.ServiceName][]Offer
	complete  bool
}

// New returns an Imports that does nothing until Run. It has the client follow what it
// needs, so it comes before the client's Run.
func New(cfg Config) (*Imports, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	i := &Imports{cfg: cfg, metrics: m}
	made := kube.Selection{Labels: labelManaged + "=" + managedBy + "," + kube.ImportLabel}
	if i.namespaces, err = kube.Follow(cfg.Client, kube.Selection{}, func(n *corev1.Namespace) {
		n.Labels, n.Annotations = nil, nil
	}); err != nil {
		return nil, err
	}
	if i.imports, err = kube.Follow[*mcs.ServiceImport](cfg.Client, kube.Selection{Optional: true}, nil); err != nil {
		return nil, err
	}
	if i.exports, err = kube.Follow(cfg.Client, kube.Selection{Optional: true}, func(e *mcs.ServiceExport) {
		e.Labels, e.Annotations = nil, nil
	}); err != nil {
		return nil, err
	}
	if i.derived, err = kube.Follow[*corev1.Service](cfg.Client, made, nil); err != nil {
		return nil, err
	}
	i.slices, err = kube.Follow[*discoveryv1.EndpointSlice](cfg.Client, made, nil)
	return i, err
}

// SetOffers takes what clusters offer, of each service one offer of a cluster at most;
// complete says that there is nothing else, so that what is missing is gone. It
// keeps its arguments.
func (i *Imports) SetOffers(byService map[mesh.ServiceName][]Offer, complete bool) {
	i.offers.Set(&offers{byService, complete})
}

// Run keeps the cluster's objects what they should be until ctx ends. It returns nil.
func (i *Imports) Run(ctx context.Context) error {
	failures := state.Backoff{Min: retry, Max: maxRetry}
	var staleSince time.Time // that another gateway should have written; zero: nothing is stale
	for {
		w, past := i.world()
		if w.imports != nil {
			ports := Entrances(w.imports, i.cfg.Ports)
			i.resting.update(ports, time.Now())
			if i.cfg.Want != nil {
				i.cfg.Want(ports)
			}
		}
		leads, ledPast := i.cfg.Lease.Held()
		next, rest, began := recheck, settle, time.Now()
		switch {
		case !w.known():
		case leads:
			staleSince = time.Time{}
			if failed := i.reconcile(ctx, w); failed > 0 {
				next = failures.Next()
			} else {
				failures.Reset()
			}
		case len(i.stale(w)) == 0:
			staleSince = time.Time{}
			rest = min(max(settle, restPart*time.Since(began)), writerTime) // the writer writes, and all of that is looked at here
		case staleSince.IsZero():
			staleSince, next = time.Now(), writerTime
		case time.Since(staleSince) < writerTime:
			next = writerTime - time.Since(staleSince)
		default:
			i.standIn(ctx, w)
			staleSince = time.Time{}
		}
		i.metrics.leads(leads)
		if !state.AwaitFor(ctx, next, append(past, ledPast)...) || !state.Pause(ctx, rest) {
			return nil
		}
	}
}

// world is everything that is known at one moment. Nil: not yet.
type world struct {
	offers     *offers
	namespaces []*corev1.Namespace
	imports    []*mcs.ServiceImport
	exports    []*mcs.ServiceExport
	derived    []*corev1.Service
	slices     []*discoveryv1.EndpointSlice
	gateways   []*discoveryv1.EndpointSlice
}

func (i *Imports) world() (w world, past []<-chan struct{}) {
	past = make([]<-chan struct{}, 7)
	w.offers, past[0] = i.offers.Snapshot()
	w.namespaces, past[1] = i.namespaces.Snapshot()
	w.imports, past[2] = i.imports.Snapshot()
	w.exports, past[3] = i.exports.Snapshot()
	w.derived, past[4] = i.derived.Snapshot()
	w.slices, past[5] = i.slices.Snapshot()
	w.gateways, past[6] = i.cfg.Gateways.Snapshot()
	return w, past
}

func (w *world) known() bool {
	return w.offers != nil && w.namespaces != nil && w.imports != nil && w.exports != nil && w.derived != nil && w.slices != nil && w.gateways != nil
}

// hasNamespace reports whether it exists and stays.
func (w *world) hasNamespace(name string) bool {
	at, found := slices.BinarySearchFunc(w.namespaces, name, func(n *corev1.Namespace, name string) int {
		if n.Name < name {
			return -1
		} else if n.Name > name {
			return 1
		}
		return 0
	})
	return found && w.namespaces[at].DeletionTimestamp == nil && w.namespaces[at].Status.Phase != corev1.NamespaceTerminating
}
