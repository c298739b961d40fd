package ca

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/rpcerr"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
	"github.com/isthmus-mesh/isthmus/internal/trust"
)

// gateways follows the bundles of this cluster's gateways (package internal/trust), as
// sidecars do: a CA must know who was revoked. A bundle counts because a root has signed
// it, whoever sends it. Its methods may be called concurrently.
type gateways struct {
	ca *CA

	mu   sync.Mutex
	told map[string]string // by address: why nothing is heard from it; empty: it is
}

// unheard is what there is to say of a gateway before anything was tried.
const unheard = "not answered yet"

func newGateways(ca *CA) *gateways {
	g := &gateways{ca: ca, told: make(map[string]string)}
	for _, address := range ca.cfg.Gateways {
		g.told[address] = unheard
	}
	return g
}

// run follows all of them until ctx ends.
func (g *gateways) run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, address := range g.ca.cfg.Gateways {
		all.Go(func() { g.follow(ctx, address) })
	}
	all.Wait()
	return nil
}

// follow keeps a stream to one gateway until ctx ends.
func (g *gateways) follow(ctx context.Context, address string) {
	backoff := state.Backoff{Min: minRetry, Max: maxRetry}
	for ctx.Err() == nil {
		stood, err := g.stream(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if stood {
			backoff.Reset()
		}
		if s, ok := grpcstatus.FromError(err); ok {
			err = errors.New(s.Message())
		}
		switch g.say(address, err.Error()) {
		case "":
			g.ca.log.Warn("no bundles come from this gateway any more", "gateway", address, "err", rpcerr.Why(err))
		case unheard: // a cluster begins with its CA
			g.ca.log.Info("no bundles come from this gateway yet", "gateway", address, "err", rpcerr.Why(err))
		}
		if !state.Pause(ctx, backoff.Next()) {
			return
		}
	}
}

// say notes how it goes with one gateway, and returns what was noted before.
func (g *gateways) say(address, why string) (was string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, g.told[address] = g.told[address], why
	return was
}

// status returns what is wrong with each of them, sorted.
func (g *gateways) status() (all []status.Followed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(g.told)) {
		all = append(all, status.Followed{Address: address, LastError: g.told[address]})
	}
	return all
}

// stream is one stream from its dial to its end. stood says that the gateway answered.
func (g *gateways) stream(ctx context.Context, address string) (stood bool, err error) {
	self := g.ca.identity
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(self.HearingTLS("", identity.GatewayOf(self.ID().Cluster), "h2"))),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBundles)))
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // nothing is written on it any more
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A gateway that is frozen answers nothing: the first message has a limit, and pings follow.
	limit := time.AfterFunc(answerLimit, cancel)
	defer limit.Stop()
	calls, err := trust.NewTrustClient(conn).Follow(ctx)
	if err != nil {
		return false, err
	}
	heard, failed := tlsport.Receive(ctx, calls.Recv)
	refused := ""
	for {
		past := self.Trust().Past()
		if err := calls.Send(g.holding(refused)); err != nil {
			return stood, <-failed // Recv knows why
		}
		select {
		case <-past:
			if err := g.trusts(calls.Context()); err != nil {
				return stood, err
			}
		case err := <-failed:
			return stood, err
		case m := <-heard:
			if !stood && limit.Stop() {
				stood = true
				g.say(address, "")
				g.ca.log.Info("bundles come from this gateway", "gateway", address)
			}
			refused = g.accept(m)
		}
	}
}

// trusts returns why a gateway would not be let in any more; nil too while it is not known
// who it is: the handshake asks the same.
func (g *gateways) trusts(stream context.Context) error {
	p, ok := peer.FromContext(stream)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return errors.New("answered without TLS")
	}
	if err := g.ca.identity.Trust().TrustsRenewed(info.State, identity.GatewayOf(g.ca.identity.ID().Cluster)); err != nil {
		return fmt.Errorf("it is not trusted any more: %w", err)
	}
	return nil
}

// accept takes the bundles of a gateway, and returns why it does not.
func (g *gateways) accept(m *trust.Bundles) string {
	var faults []string
	for _, raw := range m.GetBundles() {
		if _, err := g.ca.identity.Trust().Accept(raw); err != nil {
			g.ca.log.Error("a bundle from a gateway is not taken", "err", err)
			faults = append(faults, err.Error())
		}
	}
	return strings.Join(faults, "; ")
}

// holding says what this process holds.
func (g *gateways) holding(refused string) *trust.Holding {
	root, newest := g.ca.identity.Trust().OwnRoot()
	h := &trust.Holding{Root: root.String(), OutdatedRoot: !newest, Refused: refused}
	for td, number := range g.ca.identity.Trust().Held() {
		h.Held = append(h.Held, &trust.Held{TrustDomain: td, Number: number})
	}
	return h
}
