package ca

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// review asks the API server whose a token is: a TokenReview, whose status it returns. Its
// error means that there was no answer.
type review func(ctx context.Context, token, audience string) (*authenticationv1.TokenReviewStatus, error)

// askAPIServer returns how the API server is asked whose a token is, and for a pod. It speaks
// with nobody yet.
func askAPIServer(cfg *config.CAKubernetes, log *slog.Logger, metrics prometheus.Registerer) (review, getPod, error) {
	client, err := kube.Open(kube.Config{Kubeconfig: cfg.Kubeconfig, Log: log, Metrics: metrics})
	if err != nil {
		return nil, nil, &config.KeyError{Key: "kubernetes.kubeconfig", Problem: err.Error()}
	}
	get := func(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
		return kube.Get[*corev1.Pod](ctx, client, namespace, name)
	}
	return func(ctx context.Context, token, audience string) (*authenticationv1.TokenReviewStatus, error) {
		answer, err := kube.Create(ctx, client, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}}})
		if err != nil {
			return nil, err
		}
		return &answer.Status, nil
	}, get, nil
}

// podName and podUID are what the API server adds to a user whose token is bound to a pod.
const (
	podName = "authentication.kubernetes.io/pod-name"
	podUID  = "authentication.kubernetes.io/pod-uid"
)

// question is what the API server is asked for. Strangers ask with tokens: the renewals, which
// ask for pods, have places of their own.
type question int

const (
	forToken question = iota
	forPod
)

func newAsking() *limit.Places[question] { return limit.NewPlaces[question](2*maxReviews, maxReviews) }

// reviews finds out whose the tokens of service accounts are. Its methods may be called
// concurrently.
type reviews struct {
	review   review
	audience string
	gateways string // namespace/name of their service account; empty: no pod is one
	self     identity.ID
	asking   *limit.Places[question]

	mu      sync.Mutex
	refused map[[sha256.Size]byte]refusedToken // at most maxRefused
}

type refusedToken struct {
	why   *refusal
	until time.Time
}

func newReviews(cfg *config.CAKubernetes, review review, asking *limit.Places[question], self identity.ID) *reviews {
	return &reviews{
		review: review, audience: cfg.Audience, gateways: cfg.Gateways, self: self,
		asking: asking, refused: make(map[[sha256.Size]byte]refusedToken),
	}
}

// whose returns whom a service account's token makes, and of which pod.
// The API server is asked at every use, since a token ends with its pod; only a refusal is
// remembered, for a moment.
func (r *reviews) whose(ctx context.Context, token string, now time.Time) (who proven, refused *refusal) {
	if refused := r.precheck(token, now); refused != nil {
		return proven{}, refused
	}
	key := sha256.Sum256([]byte(token))
	if why := r.remembered(key, now); why != nil {
		return proven{}, why
	}
	answer, refused := r.ask(ctx, token)
	if refused != nil {
		return proven{}, refused
	}
	if who, refused = r.judge(answer); refused != nil {
		r.remember(key, refused, now)
	}
	return who, refused
}

// precheck refuses what the token itself says cannot be good, so that the API server is not
// asked. That it is genuine only the API server knows.
func (r *reviews) precheck(token string, now time.Time) *refusal {
	bad := func(format string, args ...any) *refusal {
		return refuse(codes.Unauthenticated, badToken, "token: "+format, args...)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return bad("it is neither one of 'isthmus pki token' nor a service account's (a JSON web token)")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return bad("its claims: %w", err)
	}
	var claims struct {
		Audience any     `json:"aud"` // a text or a list of them (RFC 7519, section 4.1.3)
		Expires  float64 `json:"exp"` // Unix seconds
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return bad("its claims: %w", err)
	}
	var audiences []string
	switch a := claims.Audience.(type) {
	case string:
		audiences = []string{a}
	case []any:
		for _, one := range a {
			audiences = append(audiences, fmt.Sprint(one))
		}
	}
	if !slices.Contains(audiences, r.audience) {
		return bad("it is for the audience %q, this CA takes those for %q: write that as the audience of the projected volume", audiences, r.audience)
	}
	if ends := time.Unix(int64(claims.Expires), 0); !now.Before(ends) {
		return bad("it ended at %s: the kubelet writes another into the projected volume before, so read the file at each use", ends.UTC().Format(time.RFC3339))
	}
	return nil
}

// ask asks the API server, not more often at a time than it is good for.
func (r *reviews) ask(ctx context.Context, token string) (*authenticationv1.TokenReviewStatus, *refusal) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	giveBack, ok := r.asking.Take(ctx, forToken)
	if !ok {
		return nil, refuse(codes.Unavailable, unable, "%d tokens are being reviewed by the API server already: ask again, or another CA", maxReviews)
	}
	defer giveBack()
	answer, err := r.review(ctx, token, r.audience)
	if err != nil {
		refused := refuse(codes.Unavailable, unable, "the API server does not say whose the token is (this CA's log has the reason): ask again, or another CA")
		refused.untold = err
		return nil, refused
	}
	return answer, nil
}

// judge reads the API server's answer.
func (r *reviews) judge(answer *authenticationv1.TokenReviewStatus) (who proven, refused *refusal) {
	bad := func(format string, args ...any) (proven, *refusal) {
		return proven{}, refuse(codes.Unauthenticated, badToken, "token: "+format, args...)
	}
	if !answer.Authenticated {
		return bad("this cluster's API server does not take it (%s): it is of another cluster, has ended, or its pod or service account is gone", answer.Error)
	}
	// An API server that knows no audiences takes a token for any (TokenReviewSpec.Audiences).
	if !slices.Contains(answer.Audiences, r.audience) {
		return bad("the API server takes it for the audience %q, this CA for %q", answer.Audiences, r.audience)
	}
	account, err := identity.ParseServiceAccountUser(answer.User.Username)
	if err != nil {
		return bad("%w", err)
	}
	who = proven{by: byServiceAccount, how: "service account token", id: identity.ID{TrustDomain: r.self.TrustDomain, Cluster: r.self.Cluster}}
	if names, uids := answer.User.Extra[podName], answer.User.Extra[podUID]; len(names) == 1 {
		who.how += " of pod " + account.Namespace + "/" + names[0]
		who.pod.Name = names[0]
		if len(uids) == 1 {
			who.pod.UID = uids[0]
		}
	}
	if account.Namespace+"/"+account.ServiceAccount == r.gateways {
		if err := mesh.CheckLabel(who.pod.Name); err != nil {
			return bad("it is of the gateways' service account %s, whose pods are gateways by their names, and the pod that it is bound to (%q) cannot be one: %w", r.gateways, who.pod.Name, err)
		}
		who.id.Gateway = mesh.GatewayName(who.pod.Name)
		return who, nil
	}
	who.id.Namespace, who.id.ServiceAccount = account.Namespace, account.ServiceAccount
	return who, nil
}

// remembered returns why a token was refused a moment ago; nil: it was not.
func (r *reviews) remembered(key [sha256.Size]byte, now time.Time) *refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.refused[key]; ok && now.Before(known.until) {
		return known.why
	}
	return nil
}

func (r *reviews) remember(key [sha256.Size]byte, why *refusal, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.refused) >= maxRefused {
		for k, known := range r.refused {
			if !now.Before(known.until) {
				delete(r.refused, k)
			}
		}
	}
	if len(r.refused) < maxRefused {
		r.refused[key] = refusedToken{why, now.Add(refusedFor)}
	}
}
