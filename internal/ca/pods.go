package ca

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// getPod asks the API server for a pod.
type getPod func(ctx context.Context, namespace, name string) (*corev1.Pod, error)

// pods finds out whether the pods of certificates are still there, so that a key that was
// stolen from one does not outlive it for long. Its methods may be called concurrently.
type pods struct {
	get      getPod
	gateways string // their namespace
	log      *slog.Logger
	asking   *limit.Places[question]

	mu       sync.Mutex
	answered time.Time // when the API server said something last, or this process began
	silent   bool      // it did not when it was asked last
}

func newPods(cfg *config.CAKubernetes, get getPod, asking *limit.Places[question], now time.Time, log *slog.Logger) *pods {
	namespace, _, _ := strings.Cut(cfg.Gateways, "/")
	return &pods{get: get, gateways: namespace, log: log, asking: asking, answered: now}
}

// there refuses whose pod is gone: deleted, ended, or another one of its name. While the API
// server says nothing the pod counts as there, for [mayBeAway].
func (p *pods) there(ctx context.Context, id identity.ID, pod identity.Pod, now time.Time) *refusal {
	namespace := cmp.Or(id.Namespace, p.gateways)
	found, err := p.ask(ctx, namespace, pod.Name)
	gone := func(why string) *refusal {
		return refuse(codes.Unauthenticated, badCertificate, "the certificate is of pod %s/%s (UID %s), %s: a pod that is there shows its service account's token", namespace, pod.Name, pod.UID, why)
	}
	switch {
	case apierrors.IsNotFound(err):
		p.hear(now)
		return gone("which is gone")
	case err != nil:
		return p.unheard(err, now)
	}
	p.hear(now)
	switch {
	case string(found.UID) != pod.UID:
		return gone("which is gone: another one has its name")
	case found.Status.Phase == corev1.PodSucceeded || found.Status.Phase == corev1.PodFailed:
		return gone("which has ended")
	}
	return nil
}

func (p *pods) ask(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	giveBack, ok := p.asking.Take(ctx, forPod)
	if !ok {
		return nil, ctx.Err()
	}
	defer giveBack()
	return p.get(ctx, namespace, name)
}

// hear takes note that the API server answers.
func (p *pods) hear(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent {
		p.log.Info("the API server says again which pods are there")
	}
	p.answered, p.silent = now, false
}

// unheard says whether a pod whose API server does not answer gets a certificate.
func (p *pods) unheard(err error, now time.Time) *refusal {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.silent {
		p.silent = true
		p.log.Warn("the API server does not say which pods are there: certificates of pods are renewed without its word for now", "until", p.answered.Add(mayBeAway), "err", err)
	}
	if now.Sub(p.answered) < mayBeAway {
		return nil
	}
	refused := refuse(codes.Unavailable, unable, "the API server has not said for %s which pods are there (this CA's log has the reason): ask again, or another CA", now.Sub(p.answered).Round(time.Minute))
	refused.untold = err
	return refused
}
