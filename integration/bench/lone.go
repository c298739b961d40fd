package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// loneCommand makes this program a load of one connection after another, with
// one request each. wrk can do that too, but starts its clock when it is connected.
const loneCommand = "lone"

// lone sends requests to a URL until the time is up, at least one, and writes
// what wrk.lua does.
func lone(duration, url string, stdout io.Writer) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	r, err := newRequester(url)
	if err != nil {
		return err
	}
	var latencies []time.Duration
	start := time.Now()
	for len(latencies) == 0 || time.Since(start) < d {
		latency, err := r.request()
		if err != nil {
			return err
		}
		latencies = append(latencies, latency)
	}
	took := time.Since(start)
	slices.Sort(latencies)
	n := len(latencies)
	fmt.Fprintf(stdout, "result %d %d %d %d 0 0 0 0 0\n", n, took.Microseconds(),
		latencies[n/2].Microseconds(), latencies[n*99/100].Microseconds())
	return nil
}

// requester asks one server for one thing.
type requester struct {
	address string
	head    []byte
	dialer  net.Dialer
}

// newRequester resolves the name in a URL.
func newRequester(to string) (*requester, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Hostname())
	if err != nil {
		return nil, err
	}
	port := uint64(80)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil {
			return nil, err
		}
	}
	return &requester{
		address: netip.AddrPortFrom(addresses[0], uint16(port)).String(),
		head:    fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", u.Host),
		dialer:  net.Dialer{Timeout: loadTimeout, KeepAlive: -1},
	}, nil
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
