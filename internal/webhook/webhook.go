package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/inject"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// namespaceFile is where a pod reads its own namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Options are what a webhook has beside its configuration file. The zero value is a process
// on a real network.
type Options struct {
	Log     *slog.Logger // nil discards
	Serving func() error // called when every listener is bound; may be nil

	// Configuration reads the configuration again, for [Webhook.Reload]; nil: it cannot be.
	// Level is that of Log, which a reload changes; nil: it stays.
	Configuration func() (*config.Webhook, error)
	Level         *slog.LevelVar
}

// Webhook is one replica. Run is called once; Shutdown, Reload and Status may be called
// concurrently while it runs.
type Webhook struct {
	cfg       *config.Webhook                // with which it was started
	inForce   atomic.Pointer[config.Webhook] // cfg, with what reloads have changed
	namespace string
	opts      Options
	log       *slog.Logger
	reloader  *admin.Reloader // nil: there is nothing to read
	registry  *prometheus.Registry
	metrics   *metrics
	ready     admin.Readiness
	stays     *admin.Condition // not met once the process is to end
	started   time.Time

	injector atomic.Pointer[inject.Injector]
	turns    *limit.Places[limit.Source] // of questions

	kube           *kube.Client
	secrets        *kube.Followed[*corev1.Secret]
	configurations *kube.Followed[*admissionregistrationv1.MutatingWebhookConfiguration]
	pods           *kube.Followed[*corev1.Pod] // those without a sidecar
	namespaces     *kube.Followed[*corev1.Namespace]
	lease          *kube.Lease
	leaf           atomic.Pointer[tls.Certificate]
	certificateErr state.Store[error]

	// wired is set when what follows is: Shutdown may be called before.
	wired  atomic.Bool
	server *http.Server
}

// New checks cfg and reads the roots. It listens nowhere and asks nobody. What it refuses in
// cfg, [Check] says.
func New(cfg *config.Webhook, opts Options) (*Webhook, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	w := &Webhook{cfg: cfg, opts: opts, log: opts.Log, registry: admin.NewRegistry(), turns: limit.NewPlaces[limit.Source](maxReviews, maxOfSource)}
	w.inForce.Store(cfg)
	injector, err := inject.Open(&cfg.Sidecar)
	if err != nil {
		return nil, err
	}
	w.injector.Store(injector)
	if w.namespace, err = namespaceOf(cfg); err != nil {
		return nil, err
	}
	if w.metrics, err = newMetrics(w.registry); err != nil {
		return nil, err
	}
	if opts.Configuration != nil {
		w.reloader = admin.NewReloader(w.log, w.reload)
	}
	w.ready.Require("certificate", w.noCertificate)
	w.stays = w.ready.Condition("drain", "")
	return w, w.follow()
}

// Check says what [New] refuses in cfg, but for what only a pod has.
func Check(cfg *config.Webhook) error {
	_, err := inject.Open(&cfg.Sidecar)
	return err
}

// namespaceOf returns this process's namespace.
func namespaceOf(cfg *config.Webhook) (string, error) {
	if cfg.Namespace != "" {
		return cfg.Namespace, nil
	}
	text, err := os.ReadFile(namespaceFile)
	if err != nil {
		return "", &config.KeyError{Key: "namespace", Problem: "is missing, and this process is in no pod: write that of the webhook's Secret and Service, such as isthmus-system"}
	}
	return strings.TrimSpace(string(text)), nil
}

// follow says what of the API server is followed. RBAC gives the Secret and the
// configuration by name only, which a list has to say, too.
func (w *Webhook) follow() (err error) {
	w.kube, err = kube.Open(kube.Config{Kubeconfig: w.cfg.Kubernetes.Kubeconfig, Log: w.log, Metrics: w.registry})
	if err != nil {
		return &config.KeyError{Key: "kubernetes.kubeconfig", Problem: err.Error()}
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	w.lease = w.kube.Lease(w.namespace, leaseName, name)
	var errs [4]error
	w.secrets, errs[0] = kube.Follow[*corev1.Secret](w.kube, kube.Selection{Namespace: w.namespace, Fields: "metadata.name=" + w.cfg.Secret}, nil)
	w.configurations, errs[1] = kube.Follow[*admissionregistrationv1.MutatingWebhookConfiguration](w.kube, kube.Selection{Fields: "metadata.name=" + w.cfg.WebhookConfiguration}, nil)
	w.pods, errs[2] = kube.Follow(w.kube, kube.Selection{Labels: inject.SidecarLabel + "!=true"}, trimPod)
	w.namespaces, errs[3] = kube.Follow(w.kube, kube.Selection{Labels: inject.InjectLabel + "=" + inject.Enabled}, trimNamespace)
	return errors.Join(errs[:]...)
}

// leaseName is that of the replica that tells owners of their pods.
const leaseName = "isthmus-webhook"

// Run binds every port and serves, until ctx ends or a part fails.
func (w *Webhook) Run(ctx context.Context) error {
	w.started = time.Now()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", w.cfg.Listen.Webhook)
	if err != nil {
		return fmt.Errorf("listen.webhook: %w", err)
	}
	ports, err := admin.Bind(net.Listen, w.cfg.Listen.Admin, w.cfg.Listen.Metrics, w.cfg.Listen.Profiles)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	w.server = w.newServer()
	w.wired.Store(true)

	group, ctx := errgroup.WithContext(ctx)
	start := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			if err := run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	start("admin", admin.New(admin.Config{
		Ports: ports, Readiness: &w.ready, Metrics: w.registry, Reload: w.reloader, Log: w.log, Status: func() any { return w.Status() },
	}).Run)
	start("kubernetes", w.kube.Run)
	start("certificate", w.runCertificate)
	start("roots", w.followRoots)
	start("lease", w.lease.Run)
	start("unmeshed pods", w.runUnmeshed)
	start("reviews", func(ctx context.Context) error { return w.serve(ctx, listener) })
	w.log.Info("webhook runs", "webhook", listener.Addr().String(), "admin", ports.Admin.Addr(), "namespace", w.namespace, "image", w.cfg.Sidecar.Image)
	if w.opts.Serving != nil {
		group.Go(w.opts.Serving)
	}
	return group.Wait()
}

// newServer returns the server of questions.
func (w *Webhook) newServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /inject", w.serveReview)
	return &http.Server{
		Handler:           mux,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: w.certificateOf, NextProtos: []string{"h2", "http/1.1"}},
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
}

// serve answers until ctx ends.
func (w *Webhook) serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = w.server.Close() }) // nobody waits any longer
	defer stop()
	if err := w.server.ServeTLS(netutil.LimitListener(listener, maxConnections), "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ctx.Done() // Shutdown may still be answering
	return nil
}

// followRoots has pods trust other roots as soon as the file has them, until ctx ends.
func (w *Webhook) followRoots(ctx context.Context) error {
	said := ""
	for state.Pause(ctx, followEvery) {
		injector, err := inject.Open(&w.inForce.Load().Sidecar)
		switch {
		case err == nil:
			said = ""
			if !injector.Equal(w.injector.Load()) {
				w.injector.Store(injector)
				w.log.Info("pods get what has changed in the configuration or in the roots")
			}
		case said != err.Error(): // pods get the roots of before
			said = err.Error()
			w.log.Warn("the roots cannot be read", "err", err)
		}
	}
	return nil
}

// Drain is how long a shutdown may take.
func (w *Webhook) Drain() time.Duration { return w.inForce.Load().Drain }

// Shutdown answers a while longer, until the API server asks another replica, and then lets
// running questions end until ctx does. Run must still be running; cancel its context
// afterwards.
func (w *Webhook) Shutdown(ctx context.Context) error {
	if !w.wired.Load() {
		return nil
	}
	w.log.Info("webhook drains", "answers_for", lingers)
	w.stays.Set("the process ends")
	linger := lingers
	if end, ok := ctx.Deadline(); ok {
		linger = min(linger, time.Until(end)/2)
	}
	state.Pause(ctx, linger)
	if err := w.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("running questions were cut off: %w", err)
	}
	return nil
}
