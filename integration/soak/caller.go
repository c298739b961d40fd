package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Where callers ask; their sidecars capture it.
const (
	ordersAddr = "orders.shop.mesh.:80"
	echoAddr   = "echo.shop.mesh.:7000"
)

// caller is the program that makes the load of one host, which its sidecar captures.
type caller struct {
	name     string
	run      string // what its IDs begin with: no two callers' are equal
	records  *recorder
	client   client
	shared   *http.Client     // by HTTP/2
	calls    *grpc.ClientConn // of gRPC
	next     atomic.Int64
	underWay chan struct{}
	ordersIP atomic.Pointer[netip.Addr] // what the name resolved to at first
}

// makeLoad makes the load until its process is killed.
func makeLoad(name, socket string) error {
	records, err := newRecorder(socket)
	if err != nil {
		return err
	}
	calls, err := newCalls()
	if err != nil {
		return err
	}
	c := &caller{
		name: name, run: fmt.Sprintf("%s-%x", name, time.Now().UnixNano()), records: records,
		client: client{addr: ordersAddr}, shared: newShared(), calls: calls, underWay: make(chan struct{}, maxUnderWay),
	}
	does := map[string]func(id string) (outcome, why string){
		get: c.get, post: c.post, put: c.put, upload: c.upload, stream: c.stream, slowly: c.getSlowly, giveUp: c.giveUp, shared: c.getShared, call: c.callUnary, watch: c.callStream, tcp: c.echo, lookup: c.lookup,
	}
	ended := make(chan error)
	for kind, rate := range rates {
		go func() { ended <- c.repeat(kind, time.Duration(float64(time.Second)/rate), does[kind]) }()
	}
	return <-ended
}

// repeat begins a request every so often, whatever becomes of those before.
func (c *caller) repeat(kind string, every time.Duration, do func(id string) (outcome, why string)) error {
	ended := make(chan error, 1)
	for {
		select {
		case <-time.After(every*3/4 + rand.N(every/2)):
		case err := <-ended:
			return err
		}
		id := fmt.Sprintf("%s-%d", c.run, c.next.Add(1))
		begin := time.Now()
		select {
		case c.underWay <- struct{}{}:
		default:
			if err := c.records.record(record{didEnd, c.name, kind, id, begin, begin, hang, "too many requests are under way"}); err != nil {
				return err
			}
			continue
		}
		go func() {
			outcome, why := do(id)
			<-c.underWay
			if err := c.records.record(record{didEnd, c.name, kind, id, begin, time.Now(), outcome, why}); err != nil {
				select {
				case ended <- err:
				default:
				}
			}
		}()
	}
}

// request sends one and compares what is answered.
func (c *caller) request(method, path string, body []byte, status int, want []byte) (outcome, why string) {
	return c.requestBy(c.client.do, method, path, body, status, want)
}

func (c *caller) requestBy(do func(*http.Request) (answer, error), method, path string, body []byte, status int, want []byte) (outcome, why string) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://orders.shop.mesh"+path, r)
	if err != nil {
		return wrong, err.Error()
	}
	a, err := do(req)
	switch {
	case err != nil && silent(err):
		return hang, err.Error()
	case err != nil && a.begun:
		return cut, fmt.Sprintf("%d, %d bytes: %v", a.status, len(a.body), err)
	case err != nil:
		return failed, err.Error()
	case a.status == http.StatusNotFound:
		return absent, string(a.body)
	case a.status != status && a.status >= 500:
		return failed, fmt.Sprintf("%d %q: %s", a.status, a.header.Get("Proxy-Status"), bytes.TrimSpace(a.body))
	case a.status != status:
		return wrong, fmt.Sprintf("%d %q: %s", a.status, a.header.Get("Proxy-Status"), bytes.TrimSpace(a.body))
	case !bytes.Equal(a.body, want):
		return wrong, fmt.Sprintf("%d bytes of %d, by %s", len(a.body), len(want), a.header.Get("Instance"))
	}
	return ok, a.header.Get("Instance")
}

func (c *caller) get(id string) (outcome, why string) {
	size := 1 + rand.N(maxBody)
	return c.request(http.MethodGet, fmt.Sprintf("/get/%s?size=%d", id, size), nil, http.StatusOK, content(id, size))
}

// digested is what the program answers to a body.
func digested(id string, body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte(id + " " + hex.EncodeToString(sum[:]))
}

func (c *caller) post(id string) (outcome, why string) {
	body := content(id, 1+rand.N(4096))
	return c.request(http.MethodPost, "/post/"+id, body, http.StatusOK, digested(id, body))
}

func (c *caller) put(id string) (outcome, why string) {
	body := content(id, 1+rand.N(maxBody))
	return c.request(http.MethodPut, "/put/"+id, body, http.StatusOK, digested(id, body))
}

func (c *caller) upload(id string) (outcome, why string) {
	return c.request(http.MethodPost, "/upload/"+id, make([]byte, uploadSize), http.StatusRequestEntityTooLarge, []byte(id))
}

func (c *caller) stream(id string) (outcome, why string) {
	var want bytes.Buffer
	for i := range streamLines {
		fmt.Fprintf(&want, "%s %d\n", id, i)
	}
	want.WriteString("end\n")
	return c.request(http.MethodGet, "/stream/"+id, nil, http.StatusOK, want.Bytes())
}

// echo has some frames echoed on a connection of their own.
func (c *caller) echo(id string) (outcome, why string) {
	step := "connect"
	fail := func(err error) (outcome, why string) {
		why = fmt.Sprintf("%s: %v", step, err)
		switch {
		case silent(err):
			return hang, why
		case errors.Is(err, errFrame):
			return wrong, why
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return eof, why
		}
		return failed, why
	}
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(context.Background(), "tcp4", echoAddr)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	for i := range tcpFrames {
		step = fmt.Sprintf("frame %d", i)
		b := []byte(id)
		if i > 0 {
			b = content(step+id, 1+rand.N(maxFrame))
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if err := writeFrame(conn, b); err != nil {
			return fail(err)
		}
		back, err := readFrame(conn)
		if err != nil {
			return fail(err)
		}
		if !bytes.Equal(back, b) {
			return fail(errFrame)
		}
		time.Sleep(tcpPause)
	}
	step = "end"
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return fail(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return fail(fmt.Errorf("%d bytes more, %w", n, err))
	}
	return ok, ""
}

// lookup asks for an address, which must stay what it was.
func (c *caller) lookup(string) (outcome, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := net.Resolver{PreferGo: true}
	all, err := r.LookupNetIP(ctx, "ip4", "orders.shop.mesh.")
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return absent, err.Error()
	case errors.As(err, &dns) && dns.IsTimeout:
		return hang, err.Error()
	case err != nil:
		return failed, err.Error()
	case len(all) != 1:
		return wrong, fmt.Sprint(all)
	}
	if first := c.ordersIP.Load(); first == nil {
		c.ordersIP.CompareAndSwap(nil, &all[0])
	} else if *first != all[0] {
		return wrong, fmt.Sprintf("%v, at first it was %v", all[0], *first)
	}
	return ok, ""
}
