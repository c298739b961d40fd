package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Explicit is a listener whose every connection is for one destination.
type Explicit struct {
	Listen      string // host:port
	Destination mesh.Destination
	User        *osuser.User // whose programs alone may use it; nil: anybody's
}

// listenExplicit makes the listener for one destination.
func (p *Proxy) listenExplicit(e Explicit) *server {
	s := &server{p: p, direction: outbound, address: e.Listen}
	s.lead(e)
	s.serve = func(c *client) { s.leads.Load().serveExplicit(c) }
	return s
}

// lead has the listener lead to where e says from its next connection on.
func (s *server) lead(e Explicit) {
	s.destination, s.label = e.Destination, e.Destination.String()
	to := s.p.toward(s.destination, s.label)
	to.user = e.User
	s.leads.Store(to)
}

// serveExplicit serves who connected to an explicit listener.
func (s *server) serveExplicit(c *client) {
	rewrite := s.rewrite
	rewrite.ForwardedFor, rewrite.Outside = outsider(c.Accepted.RemoteAddr())
	err := s.ofUser(c)
	var service *upstream.Service
	if err == nil {
		service, err = s.service(s.p.ctx)
	}
	if err != nil {
		s.refuse(c, rewrite, err)
		return
	}
	s.drive(c, service.Protocol(), service, rewrite)
}

// ofUser returns the refusal for a connection of another user's program than the
// listener is for.
func (s *server) ofUser(c *client) error {
	if s.user == nil {
		return nil
	}
	uid, err := osuser.Peer(c.Accepted)
	if err == nil && uid == s.user.UID {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the caller is of user %d", uid)
	}
	s.log.Warn("refused a connection of another user", "user", s.user.Name, "from", c.Accepted.RemoteAddr(), "err", err)
	return &exchange.LocalReply{Status: 403, Reason: connect.RequestDenied, Detail: fmt.Sprintf("only programs of user %q may use this listener", s.user.Name)}
}

// SetExplicit replaces the explicit listeners. One that stays leads to where it is
// said to from its next connection on. One that goes accepts nothing more, and its
// connections go on until they end. With an error, which names the listener that
// could not be bound, nothing has changed. It must be called after Ready.
func (p *Proxy) SetExplicit(ctx context.Context, explicit []Explicit) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.bound || p.finished[outbound] {
		return errors.New("proxy: it does not listen now")
	}
	var added []*server
	for _, e := range explicit {
		if p.listensAt(e.Listen) == nil {
			added = append(added, p.listenExplicit(e))
		}
	}
	if err := listenAll(ctx, added); err != nil {
		return err
	}
	p.servers = slices.DeleteFunc(p.servers, func(s *server) bool {
		gone := s.leads.Load() != nil && !slices.ContainsFunc(explicit, func(e Explicit) bool { return e.Listen == s.address })
		if gone {
			s.queue.finish()
			p.log.Info("not listening any more", "addr", s.address, "service", s.label)
		}
		return gone
	})
	for _, e := range explicit {
		if s := p.listensAt(e.Listen); s != nil {
			s.lead(e)
		}
	}
	for _, s := range added {
		s.start()
	}
	p.servers = append(p.servers, added...)
	return nil
}

// listensAt returns the explicit listener of an address, nil when there is none.
// The caller holds p.mu.
func (p *Proxy) listensAt(address string) *server {
	for _, s := range p.servers {
		if s.address == address && s.leads.Load() != nil {
			return s
		}
	}
	return nil
}
