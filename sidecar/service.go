package sidecar

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// watchProgram keeps the gateways told whether the program beside answers.
func (s *Sidecar) watchProgram(ctx context.Context) error {
	svc := s.cfg.Service
	s.register(false)
	health.Watch(ctx, svc.Health,
		func(ctx context.Context) error { return svc.Health.ProbeBy(ctx, s.dialProgram, svc.Target) },
		func(ready bool, err error) {
			if ready {
				s.log.Info("the program answers", "service", svc.Name, "target", svc.Target)
				s.answers()
			} else {
				s.log.Warn("the program does not answer", "service", svc.Name, "target", svc.Target, "err", err)
			}
			s.healthy.Store(ready)
			s.register(ready)
		})
	return nil
}

func (s *Sidecar) register(ready bool) {
	svc := s.cfg.Service
	s.registrar.Register(&register.Registration{
		Service: svc.Name.String(), Port: uint32(svc.Port), Protocol: string(svc.Protocol), Instance: svc.Instance,
		Address: svc.Advertise, Ready: ready, Weight: svc.Weight, Unexported: !svc.Export,
	})
}

// runProgram runs the program beside, in its own cgroup when it is captured. When it
// ends by itself, what it sent last is still on its way: Run ends when that has
// arrived, or the drain time is over.
func (s *Sidecar) runProgram(ctx context.Context) error {
	start := programStart{unspliced: s.accelerates(), grace: s.cfg.Drain}
	if s.capture != nil {
		start.cgroup = s.capture.cgroup
	}
	err := s.program.run(ctx, start)
	if err == nil {
		return nil // Shutdown drains
	}
	drained, cancel := context.WithTimeout(ctx, s.cfg.Drain)
	defer cancel()
	if late := errors.Join(s.registrar.Shutdown(drained), s.proxy.Shutdown(drained)); late != nil {
		s.log.Warn("the program has ended, and not everything that it sent has arrived", "err", late)
	}
	return err
}
