package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Probe asks addr (host:port) once and returns why it is not healthy. It takes
// at most c.Timeout. The connection is never kept: a check is to find out
// whether a new one is served.
func (c Check) Probe(ctx context.Context, addr string) error {
	var d net.Dialer
	return c.ProbeBy(ctx, d.DialContext, addr)
}

// ProbeBy is [Check.Probe] with a way to connect.
func (c Check) ProbeBy(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string) error {
	c = c.WithDefaults()
	if c.Kind == None {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Kind == TCP {
		return nil
	}
	if c.Kind == GRPC {
		if err := c.askGRPC(ctx, conn); err != nil {
			return fmt.Errorf("ask %s by grpc.health.v1: %w", addr, err)
		}
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.get(conn, addr); err != nil {
		return fmt.Errorf("GET http://%s%s: %w", addr, c.Path, err)
	}
	return nil
}

// get makes the HTTP request on conn and reads the head of the final reply.
func (c Check) get(conn net.Conn, addr string) error {
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: isthmus-health\r\nAccept: */*\r\nConnection: close\r\n\r\n", c.Path, addr)
	if err != nil {
		return err
	}
	head := bufio.NewReaderSize(io.LimitReader(conn, maxReplyHead), 1<<10)
	for {
		reply, err := http.ReadResponse(head, &http.Request{Method: http.MethodGet}) //nolint:bodyclose // it would be read to its end; the connection is closed
		if err != nil {
			return err
		}
		switch {
		case reply.StatusCode < 200 && reply.StatusCode != http.StatusSwitchingProtocols:
			continue
		case reply.StatusCode < 200 || reply.StatusCode >= 400:
			return fmt.Errorf("answered %s", reply.Status)
		}
		return nil
	}
}
