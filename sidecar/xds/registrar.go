package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/register"
)

// registerLoop keeps the registration with one gateway, for as long as there is
// one, until ctx ends.
func (c *Client) registerLoop(ctx context.Context, l *link) {
	var b backoff
	for ctx.Err() == nil {
		r, past := c.registered()
		if r == nil {
			b.reset()
			select {
			case <-past:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		err := c.registerStream(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue // withdrawn
		}
		if time.Since(began) > stableAfter {
			b.reset()
		}
		if b.failures == 0 {
			c.log.Warn("not registered with this gateway", "peer", l.addr, "service", r.Service.String(), "err", err)
		}
		if !pause(ctx, b.next()) {
			return
		}
	}
}

// registered returns the current registration and a channel that is closed when
// it is past.
func (c *Client) registered() (*Registration, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.registration, c.registerPast
}

// registerStream is one registration from its dial to its end; its error is nil
// when it was withdrawn and the gateway has confirmed that.
func (c *Client) registerStream(ctx context.Context, l *link) (err error) {
	conn, err := l.acquire()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	acks := make(chan *register.Ack)
	ended := make(chan error, 1)
	receiving := false
	defer func() {
		cancel(nil)
		if receiving {
			for range acks { // the receiver closes it as it leaves
			}
		}
		l.release(conn, breaks(err))
		c.note(l, func(s *GatewayStatus) {
			s.Registered, s.Address = false, ""
			if err != nil {
				s.LastError = err.Error()
			}
		})
	}()
	limit := time.AfterFunc(answerLimit, func() { cancel(fmt.Errorf("no answer within %s: frozen or overloaded?", answerLimit)) })
	defer limit.Stop()

	stream, err := register.NewRegistryClient(conn).Register(ctx)
	if err != nil {
		return causeOf(ctx, err)
	}
	receiving = true
	go func() {
		defer close(acks)
		for {
			ack, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case acks <- ack:
			case <-ctx.Done():
				return
			}
		}
	}()

	// From here on the gateway may hold the registration, whether we hear so or
	// not. Said before looking whether there still is one: see Shutdown.
	c.expose(l, true)
	defer c.expose(l, false)

	withdrawn := false
	for {
		r, past := c.registered()
		if r == nil {
			withdrawn = true
			past = nil
			limit.Reset(answerLimit)
			if err := stream.CloseSend(); err != nil {
				return c.sendError(ctx, ended, err)
			}
		} else if err := stream.Send(wire(r)); err != nil {
			return c.sendError(ctx, ended, err)
		}
		for again := false; !again; {
			select {
			case ack, ok := <-acks:
				switch {
				case ok && !withdrawn:
					limit.Stop()
					c.note(l, func(s *GatewayStatus) {
						s.Registered, s.Address, s.LastError = true, ack.GetAddress(), ""
					})
				case !ok:
					err := c.sendError(ctx, ended, io.EOF)
					if withdrawn && errors.Is(err, errStreamEnded) {
						return nil
					}
					return err
				}
			case <-past:
				again = true
			case <-ctx.Done():
				return causeOf(ctx, ctx.Err())
			}
		}
	}
}

// expose notes whether the gateway of l may hold the registration.
func (c *Client) expose(l *link, exposed bool) {
	l.mu.Lock()
	l.exposed = exposed
	l.mu.Unlock()
	c.note(l, func(*GatewayStatus) {})
}

// wire is r as the protocol says it.
func wire(r *Registration) *register.Registration {
	return &register.Registration{
		Service:    r.Service.String(),
		Port:       uint32(r.Port),
		Protocol:   string(r.Protocol),
		Instance:   r.Instance,
		Address:    r.Address,
		Ready:      r.Ready,
		Weight:     r.Weight,
		Unexported: !r.Export,
	}
}
