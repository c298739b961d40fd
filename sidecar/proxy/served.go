package proxy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// SetServed replaces what runs beside: the proxy must have been made with
// [Inbound.Changing]. Who is connected to a port that is not served any more goes on, and new
// callers are refused. On an error nothing is changed.
func (p *Proxy) SetServed(ports []Served) error {
	if p.inbound == nil || !p.inbound.cfg.Changing {
		return errors.New("proxy: what is served does not change here")
	}
	if err := checkServed(ports); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished[inbound] {
		return nil
	}
	fresh := 0
	for i := range ports {
		if p.everLocked(&ports[i]) == nil {
			fresh++
		}
	}
	if len(p.everServed)+fresh > maxEverServed {
		return fmt.Errorf("proxy: %d ports were served here: restart the pod to serve others", len(p.everServed))
	}
	next := make([]*inboundPort, 0, len(ports))
	for i := range ports {
		next = append(next, p.portLocked(&ports[i]))
	}
	p.inbound.ports.Store(&next)
	return nil
}

// everLocked returns what has served a port before; nil: nothing.
func (p *Proxy) everLocked(in *Served) *inboundPort {
	for _, port := range p.everServed {
		if port.of == keyOf(in) {
			return port
		}
	}
	return nil
}

// portLocked returns what serves a port: what has served it before, whose connections have
// gone on, or something new.
func (p *Proxy) portLocked(in *Served) *inboundPort {
	if port := p.everLocked(in); port != nil {
		return port
	}
	port := p.inbound.servePort(in)
	p.everServed = append(p.everServed, port)
	if p.bound {
		p.judge(port)
	}
	p.log.Info("serves a port", "service", port.label, "target", in.Target, "protocol", string(in.Protocol))
	return port
}

// judge has the open connections of a port judged again whenever its policy changes.
func (p *Proxy) judge(port *inboundPort) {
	if port.access == nil {
		return
	}
	p.judging.Go(func() { port.access.Watch(p.ctx) })
}

// programs are those that are or were served.
func (p *Proxy) programs() []*inboundPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.everServed)
}

// portKey tells ports apart that are served differently.
type portKey struct {
	destination mesh.Destination
	target      string
	protocol    mesh.Protocol
}

func keyOf(in *Served) portKey {
	return portKey{mesh.Destination{Service: in.Service, Port: in.Port}, in.Target, in.Protocol}
}
