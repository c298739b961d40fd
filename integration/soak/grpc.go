package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// callsAddr is where callers make gRPC calls.
const callsAddr = "orders.shop.mesh.:50051"

// The methods: a unary call that is answered with the digest of its message, and one that
// is answered with what a [stream] has.
const (
	unaryMethod  = "/soak.Orders/Put"
	streamMethod = "/soak.Orders/Watch"
)

// message is the bytes of a gRPC message as they are.
type message struct{}

func (message) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (message) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (message) Name() string                       { return "bytes" }

// A message begins with the request's ID and a line's end.

func idOf(m []byte) string {
	id, _, _ := bytes.Cut(m, []byte("\n"))
	return string(id)
}

// serveCalls is the other port of the program of an HTTP service. On SIGTERM it lets its calls end.
func serveCalls(ctx context.Context, instance, addr string, records *recorder) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ForceServerCodec(message{}), grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxCallsAge}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(s)
		kind := map[string]string{unaryMethod: call, streamMethod: watch}[method]
		if err := records.record(record{Did: didExecute, Who: instance, Kind: kind, ID: idOf(m), Begin: time.Now()}); err != nil {
			return err
		}
		if kind == call {
			back := digested(idOf(m), m)
			return s.SendMsg(&back)
		}
		for i := range streamLines {
			line := fmt.Appendf(nil, "%s %d\n", idOf(m), i)
			if err := s.SendMsg(&line); err != nil {
				return err
			}
			time.Sleep(streamPause)
		}
		return nil
	}))
	defer context.AfterFunc(ctx, func() {
		defer time.AfterFunc(programDrain, server.Stop).Stop()
		server.GracefulStop()
	})()
	return server.Serve(l)
}

// newCalls returns a client with one connection for all calls.
func newCalls() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+callsAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(message{})),
		// Its own patience with a sidecar that is away must not outlast the fault.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: reconnect, Multiplier: 1, MaxDelay: reconnect}, MinConnectTimeout: patience}))
}

// ofCall says how a call ended; begun: a message had come.
func ofCall(ctx context.Context, err error, begun bool) (outcome, why string) {
	switch {
	case ctx.Err() != nil: // the mesh says DEADLINE_EXCEEDED, too, and in time
		return hang, err.Error()
	case status.Code(err) == codes.Unimplemented, status.Code(err) == codes.NotFound:
		return absent, err.Error()
	case begun:
		return cut, err.Error()
	}
	return failed, err.Error()
}

// callUnary makes a call that must not be repeated.
func (c *caller) callUnary(id string) (outcome, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := append([]byte(id+"\n"), content(id, maxFrame)...)
	var back []byte
	if err := c.calls.Invoke(ctx, unaryMethod, &m, &back); err != nil {
		return ofCall(ctx, err, false)
	}
	if want := digested(id, m); !bytes.Equal(back, want) {
		return wrong, fmt.Sprintf("%q, want %q", back, want)
	}
	return ok, ""
}

// callStream reads a stream to its end.
func (c *caller) callStream(id string) (outcome, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience+streamLines*streamPause)
	defer cancel()
	s, err := c.calls.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, streamMethod)
	if err != nil {
		return ofCall(ctx, err, false)
	}
	m := []byte(id + "\n")
	if err := s.SendMsg(&m); err != nil && !errors.Is(err, io.EOF) { // of EOF the next says why
		return ofCall(ctx, err, false)
	}
	if err := s.CloseSend(); err != nil {
		return ofCall(ctx, err, false)
	}
	for i := range streamLines {
		var line []byte
		if err := s.RecvMsg(&line); err != nil {
			if errors.Is(err, io.EOF) {
				return wrong, fmt.Sprintf("it ends after %d messages", i)
			}
			return ofCall(ctx, err, i > 0)
		}
		if want := fmt.Sprintf("%s %d\n", id, i); string(line) != want {
			return wrong, fmt.Sprintf("%q, want %q", line, want)
		}
	}
	var line []byte
	if err := s.RecvMsg(&line); !errors.Is(err, io.EOF) {
		return ofCall(ctx, errors.Join(err, errors.New("after the last message")), true)
	}
	return ok, ""
}

// newShared returns a client that has one connection of HTTP/2 for all requests.
func newShared() *http.Client {
	t := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: patience}
		return d.DialContext(ctx, "tcp4", ordersAddr)
	}}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: t, Timeout: 2 * patience}
}

// doShared sends a request by HTTP/2, and reads nothing of the answer's body for pause.
func (c *caller) doShared(req *http.Request, pause time.Duration) (a answer, err error) {
	resp, err := c.shared.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a = answer{begun: true, status: resp.StatusCode, header: resp.Header}
	time.Sleep(pause)
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

// getShared is get by HTTP/2.
func (c *caller) getShared(id string) (outcome, why string) {
	return c.requestBy(func(req *http.Request) (answer, error) { return c.doShared(req, 0) },
		http.MethodGet, fmt.Sprintf("/shared/%s?size=%d", id, maxBody), nil, http.StatusOK, content(id, maxBody))
}

// getSlowly lets an answer wait in every buffer on its way, beside the other requests of
// its connections.
func (c *caller) getSlowly(id string) (outcome, why string) {
	return c.requestBy(func(req *http.Request) (answer, error) { return c.doShared(req, slowPause) },
		http.MethodGet, "/slow/"+id, nil, http.StatusOK, content(id, slowSize))
}

// giveUp resets a stream after a while, before or in the answer.
func (c *caller) giveUp(id string) (outcome, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), rand.N(longestWait))
	defer cancel()
	outcome, why = c.requestBy(func(req *http.Request) (answer, error) { return c.doShared(req.WithContext(ctx), 0) },
		http.MethodGet, "/stream/"+id, nil, http.StatusOK, nil)
	if ctx.Err() != nil && outcome != absent {
		return ok, ""
	}
	return outcome, why
}
