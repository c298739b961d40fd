package sidecar

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/registration"
)

// servedPort is one port that the program beside serves: checked, registered and ready
// by itself.
type servedPort struct {
	of        mesh.Destination
	at        int // its place in what [config.Sidecar.Served] returns, which no reload changes
	registrar *registration.Registrar
	callers   *state.Store[*policy.Authorizer] // of its service: who may call it; nil: not known yet
	answers   *admin.Condition                 // the program does

	registering sync.Mutex // serializes register
	healthy     atomic.Bool
}

// servePorts makes what belongs to each served port.
func (s *Sidecar) servePorts() {
	for i, of := range s.cfg.Served() {
		s.served = append(s.served, &servedPort{
			of: of.Destination(), at: i, callers: s.callers.of(of.Name),
			answers: s.ready.Condition("program", "nothing at "+of.Target+" has answered yet"),
		})
	}
}

// configOf is what is in force of a served port.
func configOf(cfg *config.Sidecar, p *servedPort) *config.Served { return &cfg.Served()[p.at] }

// watchProgram keeps the gateways told whether the program answers at a port.
func (s *Sidecar) watchProgram(ctx context.Context, p *servedPort) error {
	s.register(p)
	for known := false; ctx.Err() == nil; {
		cfg, past := s.inForce.Snapshot()
		svc := configOf(cfg, p)
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
					p.answers.Met()
				} else {
					p.answers.Set("nothing at " + svc.Target + " answers: " + err.Error())
				}
				if p.healthy.Swap(ready) == ready && known {
					return
				}
				known = true
				if ready {
					s.log.Info("the program answers", "service", p.of.String(), "target", svc.Target)
				} else {
					s.log.Warn("the program does not answer", "service", p.of.String(), "target", svc.Target, "err", err)
				}
				s.register(p)
			})
		<-watching.Done() // a check of type none is over at once
		stop()
		<-reloaded
	}
	return nil
}

// register has the gateways told of a port as it is now. It is not ready before
// it is known who may call.
func (s *Sidecar) register(p *servedPort) {
	p.registering.Lock()
	defer p.registering.Unlock()
	svc := configOf(s.inForce.Load(), p)
	p.registrar.Register(&register.Registration{
		Service: svc.Name.String(), Port: uint32(svc.Port), Protocol: string(svc.Protocol), Instance: svc.Instance,
		Address: svc.Advertise, Ready: p.healthy.Load() && p.callers.Load() != nil, Weight: svc.Weight, Unexported: !svc.Export,
	})
}

// withdraw has every gateway confirm that nothing is served here any more, or returns
// with ctx's error.
func (s *Sidecar) withdraw(ctx context.Context) error {
	errs := make([]error, len(s.served))
	var all sync.WaitGroup
	for i, p := range s.served {
		all.Go(func() { errs[i] = p.registrar.Shutdown(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
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
	if late := errors.Join(s.withdraw(drained), s.proxy.Shutdown(drained)); late != nil {
		s.log.Warn("the program has ended, and not everything that it sent has arrived", "err", late)
	}
	return err
}
