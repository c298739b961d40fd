package proxy

import (
	"context"
	"errors"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Explicit is a listener whose every connection is for one destination.
type Explicit struct {
	Listen      string // host:port
	Destination mesh.Destination
}

// listenExplicit makes the listener for one destination.
func (p *Proxy) listenExplicit(e Explicit) *server {
	s := &server{p: p, direction: outbound, address: e.Listen}
	s.lead(e.Destination)
	s.serve = func(c *client) { s.leads.Load().serveExplicit(c) }
	return s
}

// lead has the listener lead to d from its next connection on.
func (s *server) lead(d mesh.Destination) {
	s.destination, s.label = d, d.String()
	s.leads.Store(s.p.toward(d, s.label))
}

// serveExplicit serves who connected to an explicit listener.
func (s *server) serveExplicit(c *client) {
	service, err := s.service(s.p.ctx)
	rewrite := s.rewrite
	rewrite.ForwardedFor, rewrite.Outside = outsider(c.Accepted.RemoteAddr())
	if err != nil {
		s.refuse(c, rewrite, err)
		return
	}
	s.drive(c, service.Protocol(), service, rewrite)
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
			s.lead(e.Destination)
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
