package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/bench/load"
)

// lone sends requests to a server, with a connection for each and one after the other, until
// the time is up: at least one.
func lone(o load.Options) (load.Result, error) {
	r := &requester{
		address: o.Address.String(),
		head:    fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", o.Authority),
		dialer:  net.Dialer{Timeout: o.Timeout, KeepAlive: -1},
	}
	var latencies []time.Duration
	start := time.Now()
	for len(latencies) == 0 || time.Since(start) < o.Duration {
		latency, err := r.request()
		if err != nil {
			return load.Result{}, err
		}
		latencies = append(latencies, latency)
	}
	took := time.Since(start)
	slices.Sort(latencies)
	n := len(latencies)
	return load.Result{Requests: uint64(n), Duration: took, P50: latencies[n/2], P99: latencies[n*99/100]}, nil
}

// requester asks one server for one thing.
type requester struct {
	address string
	head    []byte
	dialer  net.Dialer
}

// request makes a connection, and returns how long it took until the server had
// answered and closed it.
func (r *requester) request() (time.Duration, error) {
	start := time.Now()
	conn, err := r.dialer.DialContext(context.Background(), "tcp4", r.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(start.Add(loadTimeout))
	if _, err := conn.Write(r.head); err != nil {
		return 0, err
	}
	var buffer [4 * bodySize]byte
	n, err := io.ReadFull(conn, buffer[:])
	took := time.Since(start)
	if err == nil {
		err = errors.New("it goes on")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, fmt.Errorf("read the answer of %s: %w after %d bytes", r.address, err, n)
	}
	if answer := buffer[:n]; !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer, []byte(body)) {
		return 0, fmt.Errorf("%s answered %.200q, want 200 with the origin's %d bytes", r.address, answer, bodySize)
	}
	return took, nil
}
