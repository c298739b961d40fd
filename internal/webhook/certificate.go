package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// secretKey is where the Secret has the authorities.
const secretKey = "authorities.pem"

// runCertificate keeps this replica's certificate, the Secret and the caBundle as they are to
// be, until ctx ends. What cannot be done is tried again; the replica is ready as long as it
// has a certificate, since without one that answers no pod would be made.
func (w *Webhook) runCertificate(ctx context.Context) error {
	retry := state.Backoff{Min: minRetry, Max: maxRetry}
	for {
		secrets, secretsPast := w.secrets.Snapshot()
		configurations, configurationsPast := w.configurations.Snapshot()
		wait := tidyEvery
		err := w.keepCertificate(ctx, secrets, configurations, time.Now())
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
		case errors.Is(err, errNotYet): // the first snapshots wake it
		default:
			wait = retry.Next()
			w.log.Warn("the certificate of the webhook is not as it is to be", "err", err, "again_in", wait.Round(time.Second))
		}
		w.certificateErr.Set(err)
		if !state.AwaitFor(ctx, wait, secretsPast, configurationsPast) {
			return nil
		}
	}
}

// errNotYet is what is wrong while the API server has not answered.
var errNotYet = errors.New("the API server has not answered yet")

// keepCertificate does what is due at now. The objects are those that are known, nil for
// not known.
func (w *Webhook) keepCertificate(ctx context.Context, secrets []*corev1.Secret, configurations []*admissionregistrationv1.MutatingWebhookConfiguration, now time.Time) error {
	if secrets == nil || configurations == nil {
		return errNotYet
	}
	if len(secrets) == 0 {
		return fmt.Errorf("there is no Secret %s in namespace %s: make it, empty, with kubectl -n %[2]s create secret generic %[1]s", w.cfg.Secret, w.namespace)
	}
	all, failed := w.keepSecret(ctx, secrets[0], now)
	if failed != nil {
		failed = fmt.Errorf("secret %s/%s: %w", w.namespace, w.cfg.Secret, failed)
	}
	if all == nil {
		return failed // if nil, another replica was faster: the next snapshot has what it wrote
	}
	if err := w.keepLeaf(all, now); err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	if failed != nil {
		return failed
	}
	if len(configurations) == 0 {
		return fmt.Errorf("there is no MutatingWebhookConfiguration %s: install the chart, or write another with webhookConfiguration", w.cfg.WebhookConfiguration)
	}
	if err := w.keepBundle(ctx, configurations[0], all.bundle()); err != nil {
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w", w.cfg.WebhookConfiguration, err)
	}
	return nil
}

// keepSecret returns the authorities of the Secret, with what was due in it; when that could not
// be written, those that are in it. It returns nil when somebody else has written since.
func (w *Webhook) keepSecret(ctx context.Context, secret *corev1.Secret, now time.Time) (authorities, error) {
	known, err := parseAuthorities(secret.Data[secretKey])
	if err != nil {
		w.log.Error("the Secret's authorities cannot be read: there are new ones", "secret", w.namespace+"/"+w.cfg.Secret, "err", err)
		known = nil
	}
	next, changed, err := known.renewed(now)
	if err != nil || !changed {
		return next, err
	}
	text, err := next.encode()
	if err != nil {
		return nil, err
	}
	secret = secret.DeepCopy() // the snapshot is everybody's
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[secretKey] = text
	if _, err := kube.Replace(ctx, w.kube, secret); apierrors.IsConflict(err) {
		return nil, nil
	} else if err != nil {
		return known, err
	}
	w.log.Info("the webhooks' certificates have another authority", "authorities", len(next), "not_after", next[len(next)-1].cert.NotAfter)
	return next, nil
}

// keepLeaf replaces this replica's certificate at half of its life, and when another
// authority signs.
func (w *Webhook) keepLeaf(all authorities, now time.Time) error {
	signer := all.signer(now)
	if c := w.leaf.Load(); c != nil && now.Before(halfLife(c.Leaf)) && signer.signed(c.Leaf) {
		return nil
	}
	c, err := signer.issue(serverNames(w.cfg.Service, w.namespace), now)
	if err != nil {
		return err
	}
	w.leaf.Store(c)
	w.log.Debug("the webhook has another certificate", "not_after", c.Leaf.NotAfter)
	return nil
}

// serverNames are those by which an API server may call. The first is the one.
func serverNames(service, namespace string) []string {
	return []string{service + "." + namespace + ".svc", service + "." + namespace + ".svc.cluster.local", service + "." + namespace, service}
}

// keepBundle has the API server trust the authorities.
func (w *Webhook) keepBundle(ctx context.Context, c *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte) error {
	if !slices.ContainsFunc(c.Webhooks, func(h admissionregistrationv1.MutatingWebhook) bool {
		return !bytes.Equal(h.ClientConfig.CABundle, bundle)
	}) {
		return nil
	}
	c = c.DeepCopy()
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = bundle
	}
	_, err := kube.Replace(ctx, w.kube, c)
	if apierrors.IsConflict(err) {
		return nil // the next snapshot says what is left to do
	}
	if err == nil {
		w.log.Info("the API server has the webhook's authorities", "configuration", w.cfg.WebhookConfiguration)
	}
	return err
}

// noCertificate says why this replica cannot answer, or "".
func (w *Webhook) noCertificate() string {
	c := w.leaf.Load()
	if c != nil && time.Now().Before(c.Leaf.NotAfter) {
		return ""
	}
	why := "it has not been made yet"
	if c != nil {
		why = "it ended at " + c.Leaf.NotAfter.Format(time.RFC3339)
	}
	if err := w.certificateErr.Load(); err != nil {
		why += ": " + err.Error()
	}
	return why
}

// certificateOf is what a TLS handshake shows.
func (w *Webhook) certificateOf(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := w.leaf.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the webhook has no certificate yet")
}
