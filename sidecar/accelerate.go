package sidecar

import (
	"net"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// accelerates reports whether acceleration is configured and possible.
func (s *Sidecar) accelerates() bool {
	return s.mode == config.EBPF && s.cfg.Interception.Acceleration == config.AccelerationOn
}

// tryAcceleration switches it on, as configured, or says why that cannot be: the
// traffic goes on by TCP then.
func (s *Sidecar) tryAcceleration(intercept *interception.Handle) error {
	if !s.accelerates() {
		return intercept.StopAcceleration()
	}
	if err := intercept.TryAcceleration(); err != nil {
		s.log.Warn("interception.acceleration stays off", "err", err)
		return nil
	}
	s.log.Info("acceleration is on: the program must be one that reads without blocking")
	return nil
}

// accelerate returns the connection to use in place of one between the program and
// us that nothing has been read from or written to.
func (s *Sidecar) accelerate(c *net.TCPConn) relay.Conn {
	if f, ok := s.capture.intercept.Accelerate(c); ok {
		return f
	}
	return c
}
