package gatewaylink

import (
	"context"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// ShowRenewals shows every new certificate of this process to the gateways that it is
// connected to, until ctx ends. TLS 1.3 has no way to do so on a connection that is open,
// whose streams would end with the older certificate: so it takes a handshake, and
// nothing else, on another one (see [identity.Renewals]).
func ShowRenewals(ctx context.Context, id *identity.Source, links []*Link) {
	for {
		renewed, now := id.Renewed(), id.NotAfter()
		var showing sync.WaitGroup
		for _, l := range links {
			if now.After(l.shown) {
				showing.Go(func() { l.show(ctx, l.shown) })
			}
		}
		showing.Wait()
		for _, l := range links {
			l.shown = now
		}
		if !state.Await(ctx, renewed) {
			return
		}
	}
}

// show shakes hands with the gateway, and tries until that is done or there is no
// connection that would end at the given time.
func (l *Link) show(ctx context.Context, until time.Time) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for pause := (state.Backoff{Min: minRetry, Max: maxRetry}); l.inUse(); {
		if l.shakeHands(ctx) == nil || !state.Pause(ctx, pause.Next()) {
			return
		}
	}
}

func (l *Link) inUse() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn != nil
}

func (l *Link) shakeHands(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	below, err := dial(ctx, l.addr)
	if err != nil {
		return err
	}
	over := identity.Client(below, l.conf)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = below.Close()
		return err
	}
	return over.Close() // what was written before arrives
}
