package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// Object is a pointer to an object of Kubernetes: *corev1.Service and so on.
type Object interface {
	runtime.Object
	metav1.Object
}

// Config says which API server is spoken with, and as whom.
type Config struct {
	// Kubeconfig is a file, or several that are merged, as in the variable KUBECONFIG; its
	// current context counts. Empty: this process is in a pod, and is its service account.
	Kubeconfig string
	Log        *slog.Logger          // nil: silent
	Metrics    prometheus.Registerer // nil: none are registered
	// Keep is a file in which what is followed is written down, for a start while the API
	// server is away; empty: nothing is.
	Keep string
}

// Client speaks with one API server. Its methods, and the functions that take one, may
// be called concurrently, but for [Follow], which comes before Run.
type Client struct {
	config *rest.Config
	http   *http.Client
	scheme *runtime.Scheme
	codecs serializer.CodecFactory
	log    *slog.Logger
	events recorder
	kept   keptSets

	namespace string // of this process's pod, or of the kubeconfig's context

	mu       sync.Mutex
	versions map[schema.GroupVersion]*rest.RESTClient
	followed []followed
}

// followed is a [Followed] whatever its type is.
type followed interface {
	run(context.Context)
	state() KindState
	// heardOf returns how often the set has changed, since when nothing is heard of it (zero:
	// changes are), and whether the API server has said it to this process.
	heardOf() (changes int, lost time.Time, heard bool)
	encode() (json.RawMessage, error)
	keptAs() string // the name of the set in the file
}

// Open returns a client and speaks with nobody yet.
func Open(cfg Config) (*Client, error) {
	config, namespace, err := restConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = callsPerSecond, callBurst
	config.UserAgent = "isthmus"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json" // the latter for kinds of CRDs
	config.ContentType = "application/json"
	config.WarningHandlerWithContext = rest.NoWarnings{}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, http: client, scheme: scheme, codecs: serializer.NewCodecFactory(scheme), namespace: namespace,
		log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), versions: map[schema.GroupVersion]*rest.RESTClient{}}
	c.events.init()
	c.kept.path = cfg.Keep
	return c, prom.Register(cfg.Metrics, stateMetrics{c})
}

// namespaceFile holds a pod's own namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// restConfig says how the API server is reached, and in which namespace one is.
func restConfig(kubeconfig string) (*rest.Config, string, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, "", errors.New("kubernetes: this process is in no pod: name a kubeconfig")
		} else if err != nil {
			return nil, "", fmt.Errorf("kubernetes: %w", err)
		}
		namespace, err := os.ReadFile(namespaceFile)
		if err != nil {
			return nil, "", fmt.Errorf("kubernetes: the pod's namespace: %w", err)
		}
		return config, strings.TrimSpace(string(namespace)), nil
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	if files := filepath.SplitList(kubeconfig); len(files) > 1 {
		rules = &clientcmd.ClientConfigLoadingRules{Precedence: files}
	}
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	config, err := loaded.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: kubeconfig %s: %w", kubeconfig, err)
	}
	namespace, _, err := loaded.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: kubeconfig %s: %w", kubeconfig, err)
	}
	return config, namespace, nil
}

// Namespace returns the namespace of this process's pod, or of the kubeconfig's context.
func (c *Client) Namespace() string { return c.namespace }

// Server returns the API server's address.
func (c *Client) Server() string { return c.config.Host }

// Run follows what was asked for with [Follow], keeps it and writes Events, until ctx ends.
// It returns nil.
func (c *Client) Run(ctx context.Context) error {
	ctx = silent(ctx)
	if err := c.kept.load(time.Now()); err != nil {
		c.log.Warn("what was kept of the API server is not read", "err", err)
	}
	var all errgroup.Group
	all.Go(func() error { c.keep(ctx); return nil })
	c.mu.Lock()
	for _, f := range c.followed {
		all.Go(func() error { f.run(ctx); return nil })
	}
	c.mu.Unlock()
	all.Go(func() error { c.writeEvents(ctx); return nil })
	defer c.http.CloseIdleConnections()
	return all.Wait()
}

// silent has client-go log nothing by itself: what it finds comes back as an error.
func silent(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

// KindState is what is known of one followed kind.
type KindState struct {
	Kind    string // as "services" or "serviceexports.multicluster.x-k8s.io"
	Objects int
	Known   bool      // all of them have been read once
	Lost    time.Time // since when nothing is heard of changes; zero: they are heard
	Err     string    // why
}

// State says of every followed kind what is known, sorted by kind.
func (c *Client) State() []KindState {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]KindState, 0, len(c.followed))
	for _, f := range c.followed {
		all = append(all, f.state())
	}
	// What two parts follow is one line: that which knows least of it.
	slices.SortFunc(all, func(a, b KindState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(bit(a.Known), bit(b.Known)), b.Lost.Compare(a.Lost))
	})
	return slices.CompactFunc(all, func(a, b KindState) bool { return a.Kind == b.Kind })
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// at is where the API server has the objects of a type.
type at struct {
	kind     schema.GroupVersionKind
	resource schema.GroupVersionResource
	client   *rest.RESTClient
}

// where returns it for obj's type.
func (c *Client) where(obj runtime.Object) (at, error) {
	kinds, _, err := c.scheme.ObjectKinds(obj)
	if err != nil {
		return at{}, fmt.Errorf("kubernetes: %w: add it to newScheme", err)
	}
	kind := kinds[0]
	client, err := c.clientOf(kind.GroupVersion())
	return at{kind, resourceOf(kind), client}, err
}

// clientOf makes the client of a group once.
func (c *Client) clientOf(gv schema.GroupVersion) (*rest.RESTClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.versions[gv]; client != nil {
		return client, nil
	}
	config := rest.CopyConfig(c.config)
	config.GroupVersion = &gv
	config.APIPath = "/apis"
	if gv.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = c.codecs.WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(config, c.http)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	c.versions[gv] = client
	return client, nil
}
