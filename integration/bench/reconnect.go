package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// reconnectCommand makes this program a load that makes a connection for every
// request. wrk can do that, but starts its clock when it is connected.
const reconnectCommand = "reconnect"

// reconnect sends requests over so many connections at a time until the time is
// up, at least one each, and writes what wrk.lua does.
func reconnect(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet(reconnectCommand, flag.ContinueOnError)
	fs.SetOutput(stderr)
	n := fs.Int("c", 1, "connections at a time")
	d := fs.Duration("d", 0, "duration")
	if err := fs.Parse(args); err != nil {
		return err
	}
	r, err := newRequester(context.Background(), fs.Arg(0))
	if err != nil {
		return err
	}
	latencies := make([][]time.Duration, *n)
	var workers errgroup.Group
	start := time.Now()
	for i := range latencies {
		workers.Go(func() error {
			for first := true; first || time.Since(start) < *d; first = false {
				latency, err := r.request()
				if err != nil {
					return err
				}
				latencies[i] = append(latencies[i], latency)
			}
			return nil
		})
	}
	err = workers.Wait()
	took := time.Since(start)
	if err != nil {
		return err
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	fmt.Fprintf(stdout, "result %d %d %d %d 0 0 0 0 0\n", len(all), took.Microseconds(),
		all[len(all)/2].Microseconds(), all[len(all)*99/100].Microseconds())
	return nil
}

// requester asks one server for one thing.
type requester struct {
	address string
	head    []byte
	dialer  net.Dialer
}

// newRequester resolves the name in a URL, as the program would that does the asking.
func newRequester(ctx context.Context, to string) (*requester, error) {
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
		dialer:  net.Dialer{Timeout: loadTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1},
	}, nil
}

// request makes a connection, and returns how long it took until the server had
// answered and closed it. It is the server that closes first, so that the ports
// that wait for late segments are its own and the load does not run out.
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
	if err != io.ErrUnexpectedEOF {
		return 0, fmt.Errorf("read the answer of %s: %w after %d bytes", r.address, err, n)
	}
	if answer := buffer[:n]; !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer, []byte(body)) {
		return 0, fmt.Errorf("%s answered %.200q, want 200 with the origin's %d bytes", r.address, answer, bodySize)
	}
	return took, nil
}
