package sidecar

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// watchProgram keeps the gateways told whether the program beside answers.
func (s *Sidecar) watchProgram(ctx context.Context) error {
	s.register()
	for known := false; ctx.Err() == nil; {
		cfg, past := s.inForce.Snapshot()
		svc := cfg.Service
		watching, stop := context.WithCancel(ctx)
		reloaded := make(chan struct{})
		go func() {
			defer close(reloaded)
			select {
			case <-past:
				stop()
			case <-watching.Done():
			}
		}()
		health.Watch(watching, svc.Health,
			func(ctx context.Context) error { return svc.Health.ProbeBy(ctx, s.dialProgram, svc.Target) },
			func(ready bool, err error) {
				if ready {
					s.answers.Met()
				} else {
					s.answers.Set("nothing at " + svc.Target + " answers: " + err.Error())
				}
				if s.healthy.Swap(ready) == ready && known {
					return
				}
				known = true
				if ready {
					s.log.Info("the program answers", "service", svc.Name, "target", svc.Target)
				} else {
					s.log.Warn("the program does not answer", "service", svc.Name, "target", svc.Target, "err", err)
				}
				s.register()
			})
		<-watching.Done() // a check of type none is over at once
		stop()
		<-reloaded
	}
	return nil
}

// register has the gateways told of the service as it is now. It is not ready before
// it is known who may call.
func (s *Sidecar) register() {
	s.registering.Lock()
	defer s.registering.Unlock()
	svc := s.inForce.Load().Service
	s.registrar.Register(&register.Registration{
		Service: svc.Name.String(), Port: uint32(svc.Port), Protocol: string(svc.Protocol), Instance: svc.Instance,
		Address: svc.Advertise, Ready: s.healthy.Load() && s.policyKnown(), Weight: svc.Weight, Unexported: !svc.Export,
	})
}

// runProgram runs the program beside, in its own cgroup when it is captured. When it
// ends by itself, what it sent last is still on its way: Run ends when that has
// arrived, or the drain time is over.
func (s *Sidecar) runProgram(ctx context.Context) error {
	start := programStart{user: s.opts.User, unspliced: s.accelerates(), grace: s.cfg.Drain}
	if s.capture != nil {
		start.cgroup = s.capture.cgroup
	}
	err := s.program.run(ctx, start)
	if s.program.asked.Err() != nil {
		<-ctx.Done() // Shutdown drains
		return err
	}
	s.stays.Set("the program has ended")
	drained, cancel := context.WithTimeout(ctx, s.inForce.Load().Drain)
	defer cancel()
	if late := errors.Join(s.registrar.Shutdown(drained), s.proxy.Shutdown(drained)); late != nil {
		s.log.Warn("the program has ended, and not everything that it sent has arrived", "err", late)
	}
	return err
}
