package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// askGRPC asks by grpc.health.v1 on conn, which it uses up.
func (c Check) askGRPC(ctx context.Context, conn net.Conn) error {
	var used atomic.Bool
	client, err := grpc.NewClient("passthrough:///"+conn.RemoteAddr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errors.New("it has closed the connection")
			}
			return conn, nil
		}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
		grpc.WithUserAgent("isthmus-health"),
		grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer),
		grpc.WithMaxHeaderListSize(maxReplyHead), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxGRPCReply)),
	)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // can only say that it was closed before
	reply, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: c.Service})
	switch {
	case err == nil && reply.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING:
		return nil
	case err == nil:
		return fmt.Errorf("it says %s", reply.GetStatus())
	case status.Code(err) == codes.Unimplemented:
		return errors.New("the program has no grpc.health.v1.Health: add that service to it, or write type: tcp")
	case status.Code(err) == codes.NotFound:
		return fmt.Errorf("the program reports on no service %q: write one that it does, or leave service out to ask for the whole of it", c.Service)
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %s: does it speak HTTP/2 without TLS there?", c.Timeout)
	}
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("does it speak gRPC, which is HTTP/2 without TLS, there? (%s)", status.Convert(err).Message())
	}
	return fmt.Errorf("it says %s: %s", status.Code(err), status.Convert(err).Message())
}
