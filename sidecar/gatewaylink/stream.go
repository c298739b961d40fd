package gatewaylink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// ErrEnded says that a gateway ended a stream with status OK: it is leaving, or it
// confirms a withdrawal.
var ErrEnded = errors.New("the gateway ended the stream")

// Stream is one stream to a gateway, for the goroutine that [Converse] runs it in.
type Stream[Req, Resp any] struct {
	client   grpc.BidiStreamingClient[Req, Resp]
	received chan *Resp
	end      error           // why it is over; read after received is closed
	ctx      context.Context // ends with the stream
	limit    *time.Timer     // ends the stream unless an answer stops it
}

// errNoConnection says that a gateway has not shaken hands in time. It may still do so,
// for the next stream.
var errNoConnection = fmt.Errorf("no connection within %s: frozen or overloaded?", connectLimit)

// Converse opens a stream over l, has talk speak on it, and ends it when talk
// returns. The connection must stand within 2.5 s from here, and the gateway must answer
// within 10 s of that. The error is talk's, or why there was no stream.
func Converse[Req, Resp any](
	ctx context.Context, l *Link,
	open func(context.Context, grpc.ClientConnInterface) (grpc.BidiStreamingClient[Req, Resp], error),
	talk func(*Stream[Req, Resp]) error,
) (err error) {
	conn, err := l.acquire()
	if err != nil {
		return err
	}
	defer func() { l.release(conn, err) }()
	var receiving sync.WaitGroup
	defer receiving.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waiting, enough := context.WithTimeout(ctx, connectLimit)
	defer enough()
	if !conn.stands(waiting) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return errNoConnection
	}
	s := &Stream[Req, Resp]{received: make(chan *Resp), ctx: ctx}
	s.limit = time.AfterFunc(answerLimit, func() { cancel(fmt.Errorf("no answer within %s: frozen or overloaded?", answerLimit)) })
	defer s.limit.Stop()
	if s.client, err = open(ctx, conn); err != nil {
		return s.because(err)
	}
	receiving.Go(s.receive)
	return talk(s)
}

// receive hands on what the gateway says until the stream is over.
func (s *Stream[Req, Resp]) receive() {
	defer close(s.received)
	for {
		resp, err := s.client.Recv()
		if err != nil {
			s.end = err
			return
		}
		select {
		case s.received <- resp:
		case <-s.ctx.Done():
			s.end = s.ctx.Err()
			return
		}
	}
}

// Received gives what the gateway says. It is closed when the stream is over, for
// whatever reason: Err has it.
func (s *Stream[Req, Resp]) Received() <-chan *Resp { return s.received }

// Answered says that the gateway has given the answer that it owed. It returns true
// the first time.
func (s *Stream[Req, Resp]) Answered() bool { return s.limit.Stop() }

// Send sends a message. Its error says why the stream is over.
func (s *Stream[Req, Resp]) Send(m *Req) error {
	err := s.client.Send(m)
	if errors.Is(err, io.EOF) { // gRPC says why to the receiver only
		return s.Err()
	}
	return s.because(err)
}

// CloseSend says that we have nothing more to say. The gateway must end the stream
// within 2.5 s.
func (s *Stream[Req, Resp]) CloseSend() error {
	s.limit.Reset(endLimit)
	return s.because(s.client.CloseSend())
}

// Err waits for the end of the stream, whatever else comes until then, and returns
// the reason for it.
func (s *Stream[Req, Resp]) Err() error {
	for range s.received {
	}
	if errors.Is(s.end, io.EOF) {
		return s.because(ErrEnded)
	}
	return s.because(s.end)
}

// because returns err, or rather the reason for which we ended the stream
// ourselves, which led to it.
func (s *Stream[Req, Resp]) because(err error) error {
	if cause := context.Cause(s.ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
