package sidecar

import (
	"context"

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

// runProgram runs the program beside, in its own cgroup when it is captured.
func (s *Sidecar) runProgram(ctx context.Context) error {
	start := programStart{argv: s.opts.Program, unspliced: s.accelerates()}
	if s.capture != nil {
		start.cgroup = s.capture.cgroup
	}
	return runProgram(ctx, start, s.cfg.Drain)
}
