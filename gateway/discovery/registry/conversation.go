package registry

import (
	"net"

	"github.com/isthmus-mesh/isthmus/internal/register"
)

// conversation is what one stream has said and holds. It belongs to the goroutine of
// its call.
type conversation struct {
	server  *Server
	calls   register.Registry_RegisterServer
	stream  *stream
	caller  net.Addr
	last    *register.Registration
	held    key    // zero: nothing
	claimed string // the address as it was last sent
	proved  string // and as it was proved
	own     bool   // it is on the host that calls
}

// take makes the last message a registration, or ends the stream.
func (c *conversation) take() error {
	k, e, err := parse(c.last, c.stream.id, c.caller)
	if err == nil {
		err = c.server.waitResources(c.calls.Context())
	}
	if err == nil {
		resources, _ := c.server.resources()
		err = mayServe(resources, c.stream.id, k.Service) // before anybody is dialled for it
	}
	if err == nil && e.endpoint.Address != c.claimed {
		c.claimed = e.endpoint.Address
		c.proved, c.own, err = c.server.prove(c.calls.Context(), c.claimed, c.stream.id, c.caller)
	}
	if err != nil {
		return c.refuse(err)
	}
	e.stream, e.endpoint.Address, e.own = c.stream, c.proved, c.own
	asked := k.Instance
	if k, err = c.server.put(k, e); err != nil {
		return c.refuse(err)
	}
	if c.held != k {
		c.server.remove(c.held, c.stream, true)
		if k.Instance != asked {
			c.stream.log.Warn("another sidecar has this instance name: give each one of its own (key service.instance)",
				"service", k.Service.String(), "asked", asked, "instance", k.Instance)
		}
	}
	c.held = k
	c.server.accepted(c.stream, c.last)
	if err := c.calls.Send(&register.Ack{Address: e.endpoint.Address, Instance: k.Instance}); err != nil {
		c.server.remove(k, c.stream, false)
		return err
	}
	return nil
}

// refuse ends the stream with a gRPC status: what it holds goes with it.
func (c *conversation) refuse(err error) error {
	c.server.refused(c.stream, c.last, err)
	c.server.remove(c.held, c.stream, true)
	return err
}
