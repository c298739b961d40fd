package sidecar

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

// declared are the destinations of the explicit listeners.
func declared(cfg *config.Sidecar) []mesh.Destination {
	var all []mesh.Destination
	for i := range cfg.Upstreams {
		all = append(all, cfg.Upstreams[i].Destination())
	}
	return all
}

// explicit are the listeners whose callers reach one destination each. Its error is a
// [*config.KeyError].
func explicit(cfg *config.Sidecar) ([]proxy.Explicit, error) {
	var all []proxy.Explicit
	for i := range cfg.Upstreams {
		u := &cfg.Upstreams[i]
		e := proxy.Explicit{Listen: u.Listen, Destination: u.Destination()}
		if u.User != "" {
			var err error
			if e.User, err = osuser.Lookup(u.User); err != nil {
				return nil, &config.KeyError{Key: fmt.Sprintf("upstreams[%d].user", i), Problem: err.Error() + ": write a name or a number of this host's users, or nothing for anybody"}
			}
		}
		all = append(all, e)
	}
	return all, nil
}

// inbound are the listeners for the callers of what runs beside; nil when nothing does.
func (s *Sidecar) inbound() *proxy.Inbound {
	if len(s.served) == 0 && s.mode != config.Pod {
		return nil
	}
	in := &proxy.Inbound{Listen: s.cfg.Listen.Inbound, Changing: s.isTold(), Steered: s.steered()}
	for _, p := range s.served {
		svc := p.configOf(s.cfg)
		bounds := exchangeTimeouts(svc.Timeouts)
		in.Ports = append(in.Ports, proxy.Served{
			Service: svc.Name, Port: svc.Port, Target: svc.Target, Protocol: svc.Protocol,
			Dial: s.dialProgram, Timeouts: &bounds, Connect: connectTimeout(svc.Timeouts),
			Policy: p.callers, Observer: s.calls,
		})
	}
	return in
}

// captured are the listeners for what interception captures; nil when it does not.
func (s *Sidecar) captured() *proxy.Captured {
	if s.mode == config.Explicit {
		return nil
	}
	c := &proxy.Captured{
		Original: func(c net.Conn) (netip.AddrPort, bool) { return s.capture.original(c) },
		Names:    func(a netip.Addr) (mesh.Destination, bool) { return s.capture.addresses.Name(a) },
	}
	if s.direct != nil {
		c.Direct = s.direct.leads
	}
	if s.accelerates() {
		c.Accelerate = s.accelerate
	}
	for _, a := range loopbacks(s.cfg.Interception.OutboundPort) {
		c.Listen = append(c.Listen, a.String())
	}
	return c
}
