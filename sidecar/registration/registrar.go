package registration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/internal/rpcerr"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// Registrar registers one port with every gateway. Its methods may be called concurrently.
type Registrar struct {
	of      mesh.Destination // the port
	links   []*gatewaylink.Link
	log     *slog.Logger
	current state.Store[*register.Registration] // nil: nothing to register

	mu      sync.Mutex            // serializes what follows, and who changes current
	ended   bool                  // Shutdown was called
	holders state.Store[[]string] // addresses of the gateways that may hold the registration
}

// New returns a registrar of one port that does nothing until Run. A nil log discards.
func New(links []*gatewaylink.Link, of mesh.Destination, log *slog.Logger) *Registrar {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Registrar{of: of, links: links, log: log}
}

// Run registers with the gateways until ctx ends. It returns nil: unreachable
// gateways are no reason to stop.
func (r *Registrar) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, l := range r.links {
		all.Go(func() { r.registerWith(ctx, l) })
	}
	all.Wait()
	return nil
}

// Register replaces what the gateways are told of the port.
// Nil withdraws it. It never blocks; reg must not be changed afterwards. After
// Shutdown it does nothing.
func (r *Registrar) Register(reg *register.Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.current.Set(reg)
	}
}

// Shutdown withdraws the registration and returns when every gateway that may
// hold it has confirmed or is gone, or ctx ends.
func (r *Registrar) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.ended = true
	r.current.Set(nil)
	r.mu.Unlock()
	for {
		holders, past := r.holders.Snapshot()
		if len(holders) == 0 {
			return nil
		}
		select {
		case <-past:
		case <-ctx.Done():
			return fmt.Errorf("withdraw from gateway %s: %w", strings.Join(holders, ", "), ctx.Err())
		}
	}
}

// setHolder says whether the gateway of l may hold the registration.
func (r *Registrar) setHolder(l *gatewaylink.Link, holds bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(r.holders.Load()), func(addr string) bool { return addr == l.Addr() })
	if holds {
		next = append(next, l.Addr())
	}
	r.holders.Set(next)
}

// registerWith keeps the registration with one gateway, for as long as there is
// one, until ctx ends.
func (r *Registrar) registerWith(ctx context.Context, l *gatewaylink.Link) {
	gatewaylink.Follow(ctx, []*gatewaylink.Link{l}, gatewaylink.Following{
		Ready: r.waitRegistered, Stream: r.stream, Log: r.log, With: []any{"service", r.of.String()},
		Never: "not registered with this gateway", Again: "no longer registered with this gateway",
	})
}

// waitRegistered returns when there is something to register; false: ctx ended.
func (r *Registrar) waitRegistered(ctx context.Context) bool {
	for {
		reg, past := r.current.Snapshot()
		if reg != nil {
			return true
		}
		if !state.Await(ctx, past) {
			return false
		}
	}
}

type stream = gatewaylink.Stream[register.Registration, register.Ack]

// stream is one registration from its dial to its end. stood says that the gateway
// held it. Its error is nil when it was withdrawn and the gateway has confirmed that.
func (r *Registrar) stream(ctx context.Context, l *gatewaylink.Link) (stood bool, err error) {
	if err = l.Usable(); err == nil {
		err = gatewaylink.Converse(ctx, l,
			func(ctx context.Context, conn grpc.ClientConnInterface) (register.Registry_RegisterClient, error) {
				return register.NewRegistryClient(conn).Register(ctx)
			},
			func(s *stream) error { return r.talk(l, s) })
	}
	l.Update(func(s *gatewaylink.Status) {
		was := s.Registration(r.of)
		stood, was.Held, was.Address = was.Held, false, ""
		if err != nil {
			was.Error, was.Refused = rpcerr.Why(err), gatewaylink.IsRefusal(err)
		}
		s.SetRegistration(was)
	})
	return stood, err
}

// talk tells the gateway of each registration until it is withdrawn.
func (r *Registrar) talk(l *gatewaylink.Link, s *stream) error {
	// From here on the gateway may hold the registration, whether we hear so or
	// not. Said before looking whether there still is one: see Shutdown.
	r.setHolder(l, true)
	defer r.setHolder(l, false)
	for {
		reg, past := r.current.Snapshot()
		if reg == nil {
			return withdraw(s)
		}
		if err := s.Send(reg); err != nil {
			return err
		}
		if err := r.hear(l, s, past); err != nil {
			return err
		}
	}
}

// hear takes what the gateway acknowledges until the registration is past.
func (r *Registrar) hear(l *gatewaylink.Link, s *stream, past <-chan struct{}) error {
	for {
		select {
		case ack, ok := <-s.Received():
			if !ok {
				return s.Err()
			}
			if s.Answered() {
				r.log.Info("registered with this gateway", "gateway", l.Addr(), "service", r.of.String(), "address", ack.GetAddress(), "instance", ack.GetInstance())
			}
			l.Update(func(st *gatewaylink.Status) {
				st.SetRegistration(gatewaylink.Registration{Of: r.of, Held: true, Address: ack.GetAddress()})
			})
		case <-past:
			return nil
		}
	}
}

// withdraw returns nil when the gateway has confirmed.
func withdraw(s *stream) error {
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.Err(); !errors.Is(err, gatewaylink.ErrEnded) {
		return err
	}
	return nil
}
