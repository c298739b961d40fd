package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
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

	inForce     *state.Store[*config.Sidecar]                                     // of the sidecar
	dial        func(ctx context.Context, network, addr string) (net.Conn, error) // the program
	log         *slog.Logger
	registering sync.Mutex // serializes register
	healthy     atomic.Bool
}

// servedPorts are those of the configuration; what a gateway tells in their place is [told].
type servedPorts []*servedPort

// servePorts makes what belongs to each served port.
func (s *Sidecar) servePorts() {
	for i, of := range s.cfg.Served() {
		s.served = append(s.served, &servedPort{
			of: of.Destination(), at: i, callers: s.callers.of(of.Name),
			answers: s.ready.Condition("program", "nothing at "+of.Target+" has answered yet"),
			inForce: &s.inForce, dial: s.dialProgram, log: s.log,
		})
	}
}

// configOf is what cfg says of the port.
func (p *servedPort) configOf(cfg *config.Sidecar) *config.Served { return &cfg.Served()[p.at] }

// watch keeps the gateways told whether the program answers at the port, until ctx ends.
func (p *servedPort) watch(ctx context.Context) error {
	p.register()
	for known := false; ctx.Err() == nil; {
		cfg, past := p.inForce.Snapshot()
		svc := p.configOf(cfg)
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
			func(ctx context.Context) error { return svc.Health.ProbeBy(ctx, p.dial, svc.Target) },
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
					p.log.Info("the program answers", "service", p.of.String(), "target", svc.Target)
				} else {
					p.log.Warn("the program does not answer", "service", p.of.String(), "target", svc.Target, "err", err)
				}
				p.register()
			})
		<-watching.Done() // a check of type none is over at once
		stop()
		<-reloaded
	}
	return nil
}

// register has the gateways told of the port as it is now. It is not ready before
// it is known who may call.
func (p *servedPort) register() {
	p.registering.Lock()
	defer p.registering.Unlock()
	svc := p.configOf(p.inForce.Load())
	p.registrar.Register(&register.Registration{
		Service: svc.Name.String(), Port: uint32(svc.Port), Protocol: string(svc.Protocol), Instance: svc.Instance,
		Address: svc.Advertise, Ready: p.healthy.Load() && p.callers.Load() != nil, Weight: svc.Weight, Unexported: !svc.Export,
	})
}

// withdraw has every gateway confirm that nothing is served here any more, or returns
// with ctx's error.
func (all servedPorts) withdraw(ctx context.Context) error {
	errs := make([]error, len(all))
	var asking sync.WaitGroup
	for i, p := range all {
		asking.Go(func() { errs[i] = p.registrar.Shutdown(ctx) })
	}
	asking.Wait()
	return errors.Join(errs...)
}

// services are those beside, each once.
func (all servedPorts) services() (names []mesh.ServiceName) {
	for _, p := range all {
		if !slices.Contains(names, p.of.Service) {
			names = append(names, p.of.Service)
		}
	}
	return names
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
	if late := errors.Join(s.served.withdraw(drained), s.proxy.Shutdown(drained)); late != nil {
		s.log.Warn("the program has ended, and not everything that it sent has arrived", "err", late)
	}
	return err
}
