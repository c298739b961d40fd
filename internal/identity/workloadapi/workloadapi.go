package workloadapi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/rpcerr"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// firstTimeout bounds one attempt to fetch a first identity, since an agent may accept
// a connection and say nothing.
const firstTimeout = 5 * time.Second

// After a call that failed for good, an agent is asked again at this pace.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// Client asks one agent. Its methods may be called concurrently.
type Client struct {
	// Address is the agent's, such as unix:///run/spire/agent.sock.
	Address string
	// Accept says why an identity that the agent offers is not this process's.
	Accept func(identity.ID) error
	// Register is the SPIFFE ID to register for this process, for people.
	Register string
}

// Source makes one attempt to get an identity and returns a source that follows the agent.
func (c *Client) Source(ctx context.Context) (*identity.Source, error) {
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	x, err := workloadapi.FetchX509Context(ctx, workloadapi.WithAddr(c.Address))
	if err != nil {
		return nil, c.fault(err)
	}
	m, err := c.choose(x)
	if err != nil {
		return nil, err
	}
	return identity.New(m, identity.Origin{
		Follow: c.follow,
		Renew:  fmt.Sprintf("the Workload API at %s gives no newer one, see why its agent does not renew", c.Address),
	})
}

// follow hands every update of the agent to s until ctx ends. A lost agent is dialled
// again without end.
func (c *Client) follow(ctx context.Context, s *identity.Source) {
	pause := state.Backoff{Min: minPause, Max: maxPause}
	for {
		err := workloadapi.WatchX509Context(ctx, &watcher{client: c, source: s, ctx: ctx}, workloadapi.WithAddr(c.Address))
		if ctx.Err() != nil {
			return
		}
		s.Fail(c.fault(err))
		if !state.Pause(ctx, pause.Next()) {
			return
		}
	}
}

// watcher is what go-spiffe tells of one watch. Its calls come one after the other.
type watcher struct {
	client *Client
	source *identity.Source
	ctx    context.Context // the watch's, which tells nothing of its own end
}

// OnX509ContextUpdate takes an update: all that the agent has for this process.
func (w *watcher) OnX509ContextUpdate(x *workloadapi.X509Context) {
	m, err := w.client.choose(x)
	if err == nil {
		err = w.source.Replace(m)
	}
	if err != nil {
		w.source.Fail(err)
	}
}

// OnX509ContextWatchError says that the agent is lost, or refuses. It is asked again.
func (w *watcher) OnX509ContextWatchError(err error) {
	if w.ctx.Err() == nil {
		w.source.Fail(w.client.fault(err))
	}
}

// choose returns the first identity that is this process's, with the roots of its trust
// domain.
func (c *Client) choose(x *workloadapi.X509Context) (identity.Material, error) {
	var offered []string
	for _, svid := range x.SVIDs {
		id, err := identity.ParseID(svid.ID.String())
		if err == nil {
			err = c.Accept(id)
		}
		if err != nil {
			offered = append(offered, fmt.Sprintf("%s (%v)", svid.ID, err))
			continue
		}
		bundle, err := x.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			return identity.Material{}, c.fault(err)
		}
		return identity.Material{Chain: svid.Certificates, Key: svid.PrivateKey, Roots: bundle.X509Authorities()}, nil
	}
	return identity.Material{}, c.fault(fmt.Errorf("it offers no identity of this process, only %s: register %s for it, as in 'spire-server entry create -spiffeID …'",
		strings.Join(offered, ", "), c.Register))
}

func (c *Client) fault(err error) error {
	return fmt.Errorf("the Workload API at %s: %s", c.Address, rpcerr.Why(err))
}
