// Package bundles keeps a sidecar's bundles up to date: it follows every gateway of the
// cluster (package internal/trust), and tells them what it holds.
package bundles

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/trust"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// Follower follows the gateways.
type Follower struct {
	links   []*gatewaylink.Link
	trusted *identity.TrustStore
	log     *slog.Logger
}

// New returns a follower that does nothing until Run. A nil log discards.
func New(links []*gatewaylink.Link, trusted *identity.TrustStore, log *slog.Logger) *Follower {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Follower{links, trusted, log}
}

// Run follows all gateways until ctx ends. It returns nil: what is trusted stays so when
// they are out of reach.
func (f *Follower) Run(ctx context.Context) error {
	var all sync.WaitGroup
	const never = "no bundles come from this gateway"
	for _, l := range f.links {
		all.Go(func() {
			gatewaylink.Follow(ctx, []*gatewaylink.Link{l}, gatewaylink.Following{Stream: f.stream, Never: never, Again: never, Log: f.log})
		})
	}
	all.Wait()
	return nil
}

type stream = gatewaylink.Stream[trust.Holding, trust.Bundles]

// stream is one stream from its dial to its end. stood says that the gateway answered.
func (f *Follower) stream(ctx context.Context, l *gatewaylink.Link) (stood bool, err error) {
	err = gatewaylink.Converse(ctx, l,
		func(ctx context.Context, conn grpc.ClientConnInterface) (trust.Trust_FollowClient, error) {
			return trust.NewTrustClient(conn).Follow(ctx)
		},
		func(s *stream) error { return f.talk(s, &stood) })
	return stood, err
}

// talk says what is held, first and after every change, and takes what comes.
func (f *Follower) talk(s *stream, stood *bool) error {
	refused := ""
	for {
		past := f.trusted.Past()
		if err := s.Send(f.holding(refused)); err != nil {
			return err
		}
		next, err := f.hear(s, past, stood)
		if err != nil {
			return err
		}
		refused = next
	}
}

// hear takes what the gateway sends until there is something to say: what this process
// holds has changed, or it does not take what came, because of refused.
func (f *Follower) hear(s *stream, past <-chan struct{}, stood *bool) (refused string, err error) {
	for {
		select {
		case m, ok := <-s.Received():
			if !ok {
				return "", s.Err()
			}
			*stood = s.Answered() || *stood
			if err := f.accept(m); err != nil {
				return err.Error(), nil
			}
		case <-past:
			return "", nil
		}
	}
}

// accept takes the bundles of a gateway, each because a root has signed it.
func (f *Follower) accept(m *trust.Bundles) error {
	var faults []error
	for _, raw := range m.GetBundles() {
		if _, err := f.trusted.Accept(raw); err != nil {
			faults = append(faults, err)
		}
	}
	err := errors.Join(faults...)
	if err != nil {
		f.log.Error("a bundle from a gateway is not taken", "err", err)
	}
	return err
}

// holding says what this process holds.
func (f *Follower) holding(refused string) *trust.Holding {
	root, newest := f.trusted.OwnRoot()
	h := &trust.Holding{Root: root.String(), OutdatedRoot: !newest, Refused: refused}
	for td, number := range f.trusted.Held() {
		h.Held = append(h.Held, &trust.Held{TrustDomain: td, Number: number})
	}
	return h
}
