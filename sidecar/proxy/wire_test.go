package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The two ends of the conformance suite, each by HTTP/1.1 and by HTTP/2, without any code
// of ours. Fields are lines "name: value" with names in lower case.

// wireHead is the head of a request or an answer. Of a request first is "method path" and
// host its host, of an answer first is the status.
type wireHead struct {
	first, host string
	fields      []string
}

// has returns the value of a field; empty: it is not there.
func (h *wireHead) has(name string) string {
	for _, f := range h.fields {
		if v, ok := strings.CutPrefix(f, name+": "); ok {
			return v
		}
	}
	return ""
}

// wireEnd is one end of one exchange.
type wireEnd interface {
	// head writes a head; end says that nothing follows.
	head(h wireHead, end bool)
	// data writes a part of the body; end that it was the last.
	data(b string, end bool)
	// trailers ends the body with fields.
	trailers(fields ...string)
	// heads reads the next head.
	heads() (wireHead, error)
	// body reads the rest of the body and the trailers.
	body() (string, []string, error)
	// some reads a part of the body.
	some() (string, error)
	// cancel ends the exchange at once.
	cancel()
	// cancelled waits until the other end has ended the exchange at once.
	cancelled() error
	// socket is the connection.
	socket() *net.TCPConn
}

// h1End is an end that speaks HTTP/1.1.
type h1End struct {
	t       testing.TB
	c       *net.TCPConn
	r       *bufio.Reader
	raw     *bytes.Buffer // what was read
	asks    bool          // the client's end
	method  string        // of the request
	chunked bool          // what is written
	message io.ReadCloser
	trailer func() http.Header
}

func newH1(t testing.TB, c net.Conn, asks bool) *h1End {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	e := &h1End{t: t, c: c.(*net.TCPConn), asks: asks, raw: &bytes.Buffer{}}
	e.r = bufio.NewReader(io.TeeReader(c, e.raw))
	return e
}

func (e *h1End) socket() *net.TCPConn { return e.c }

func (e *h1End) head(h wireHead, end bool) {
	var b strings.Builder
	if e.asks {
		e.method, _, _ = strings.Cut(h.first, " ")
		fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: %s\r\n", h.first, h.host)
	} else {
		fmt.Fprintf(&b, "HTTP/1.1 %s Whatever\r\n", h.first)
	}
	for _, f := range h.fields {
		b.WriteString(f + "\r\n")
		if strings.HasPrefix(f, "te:") {
			b.WriteString("connection: te\r\n")
		}
	}
	bodiless := strings.HasPrefix(h.first, "1") || strings.HasPrefix(h.first, "204") || strings.HasPrefix(h.first, "304")
	e.chunked = !end && !bodiless && h.has("content-length") == "" && h.has("upgrade") == ""
	if e.chunked {
		b.WriteString("transfer-encoding: chunked\r\n")
	} else if end && !e.asks && !bodiless && h.has("content-length") == "" {
		b.WriteString("content-length: 0\r\n")
	}
	_, _ = io.WriteString(e.c, b.String()+"\r\n")
}

func (e *h1End) data(b string, end bool) {
	if e.chunked {
		if b != "" {
			b = fmt.Sprintf("%x\r\n%s\r\n", len(b), b)
		}
		if end {
			b += "0\r\n\r\n"
		}
	}
	_, _ = io.WriteString(e.c, b)
}

func (e *h1End) trailers(fields ...string) {
	_, _ = io.WriteString(e.c, "0\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n")
}

func lines(header http.Header) (fields []string) {
	for name, values := range header {
		for _, v := range values {
			fields = append(fields, strings.ToLower(name)+": "+v)
		}
	}
	sort.Strings(fields)
	return fields
}

func (e *h1End) heads() (wireHead, error) {
	if e.asks {
		resp, err := http.ReadResponse(e.r, &http.Request{Method: e.method})
		if err != nil {
			return wireHead{}, err
		}
		h := wireHead{first: fmt.Sprint(resp.StatusCode), fields: lines(resp.Header)}
		if resp.StatusCode >= 200 {
			e.message, e.trailer = resp.Body, func() http.Header { return resp.Trailer }
		}
		return h, nil
	}
	req, err := http.ReadRequest(e.r)
	if err != nil {
		return wireHead{}, err
	}
	e.method, e.message, e.trailer = req.Method, req.Body, func() http.Header { return req.Trailer }
	h := wireHead{first: req.Method + " " + req.RequestURI, host: req.Host, fields: lines(req.Header)}
	if req.ContentLength > 0 {
		h.fields = append(h.fields, fmt.Sprintf("content-length: %d", req.ContentLength))
	}
	return h, nil
}

func (e *h1End) body() (string, []string, error) {
	b, err := io.ReadAll(e.message)
	return string(b), lines(e.trailer()), err
}

func (e *h1End) some() (string, error) {
	b := make([]byte, 64<<10)
	n, err := e.message.Read(b)
	return string(b[:n]), err
}

func (e *h1End) cancel() {
	_ = e.c.SetLinger(0)
	_ = e.c.Close()
}

func (e *h1End) cancelled() error {
	_, err := io.Copy(io.Discard, e.r)
	if err != nil && !errors.Is(err, io.EOF) && strings.Contains(err.Error(), "timeout") {
		return err
	}
	return nil
}

// h2End is an end that speaks HTTP/2: one stream of one connection.
type h2End struct {
	t       testing.TB
	c       *net.TCPConn
	f       *http2.Framer
	asks    bool
	stream  uint32
	ended   bool // the other end's direction
	reset   *http2.ErrCode
	got     [][]byte // of the body, not taken yet
	trail   []string
	queue   []wireHead
	goaway  bool
	windows map[uint32]int64
	initial int64
	hold    bool // gives no windows back
}

func newH2(t testing.TB, c net.Conn, asks bool) *h2End {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	e := &h2End{t: t, c: c.(*net.TCPConn), f: http2.NewFramer(c, bufio.NewReader(c)), asks: asks, windows: map[uint32]int64{0: 65535}, initial: 65535}
	e.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if asks {
		_, _ = io.WriteString(c, http2.ClientPreface)
		e.stream = 1
	}
	settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 20}}
	if !asks {
		settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	_ = e.f.WriteSettings(settings...)
	_ = e.f.WriteWindowUpdate(0, 1<<20)
	return e
}

func (e *h2End) socket() *net.TCPConn { return e.c }

func (e *h2End) block(first [][2]string, fields []string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range first {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return b.Bytes()
}

func (e *h2End) head(h wireHead, end bool) {
	if e.asks {
		method, path, _ := strings.Cut(h.first, " ")
		pseudo := [][2]string{{":method", method}, {":scheme", "http"}, {":authority", h.host}, {":path", path}}
		if protocol := h.has("upgrade"); protocol != "" {
			pseudo = [][2]string{{":method", "CONNECT"}, {":protocol", protocol}, {":scheme", "http"}, {":authority", h.host}, {":path", path}}
			h.fields = without(h.fields, "upgrade", "connection", "sec-websocket-key")
		}
		e.headers(pseudo, h.fields, end)
		return
	}
	if h.first == "101" {
		h.first, h.fields = "200", without(h.fields, "upgrade", "connection", "sec-websocket-accept")
	}
	e.headers([][2]string{{":status", h.first}}, h.fields, end)
}

func without(fields []string, names ...string) (left []string) {
next:
	for _, f := range fields {
		for _, n := range names {
			if strings.HasPrefix(f, n+": ") {
				continue next
			}
		}
		left = append(left, f)
	}
	return left
}

// headers writes a head as it is, in as many frames as it takes.
func (e *h2End) headers(pseudo [][2]string, fields []string, end bool) {
	block := e.block(pseudo, fields)
	first := block[:min(len(block), 16<<10)]
	block = block[len(first):]
	_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: e.stream, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0})
	for len(block) > 0 {
		part := block[:min(len(block), 16<<10)]
		block = block[len(part):]
		_ = e.f.WriteContinuation(e.stream, len(block) == 0, part)
	}
}

func (e *h2End) data(b string, end bool) {
	for {
		room := min(e.window(e.stream), e.windows[0], 16<<10)
		n := min(int64(len(b)), room)
		if n > 0 || len(b) == 0 {
			_ = e.f.WriteData(e.stream, end && n == int64(len(b)), []byte(b[:n]))
			e.windows[0] -= n
			e.windows[e.stream] = e.window(e.stream) - n
			b = b[n:]
		}
		if len(b) == 0 {
			return
		}
		if n == 0 && e.next() != nil {
			return
		}
	}
}

func (e *h2End) window(stream uint32) int64 {
	if _, ok := e.windows[stream]; !ok {
		e.windows[stream] = e.initial
	}
	return e.windows[stream]
}

func (e *h2End) trailers(fields ...string) { e.headers(nil, fields, true) }

// next reads one frame.
func (e *h2End) next() error {
	if e.reset != nil {
		return http2.StreamError{StreamID: e.stream, Code: *e.reset}
	}
	f, err := e.f.ReadFrame()
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for id := range e.windows {
				if id != 0 {
					e.windows[id] += int64(v) - e.initial
				}
			}
			e.initial = int64(v)
		}
		_ = e.f.WriteSettingsAck()
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = e.f.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		e.windows[f.StreamID] = map[bool]int64{true: e.windows[0], false: e.window(f.StreamID)}[f.StreamID == 0] + int64(f.Increment)
	case *http2.MetaHeadersFrame:
		var h wireHead
		var fields []string
		pseudo := map[string]string{}
		for _, field := range f.Fields {
			if strings.HasPrefix(field.Name, ":") {
				pseudo[field.Name] = field.Value
			} else {
				fields = append(fields, field.Name+": "+field.Value)
			}
		}
		sort.Strings(fields)
		switch {
		case len(pseudo) == 0:
			e.trail = fields
		case e.asks:
			h = wireHead{first: pseudo[":status"], fields: fields}
			e.queue = append(e.queue, h)
		default:
			e.stream = f.StreamID
			h = wireHead{first: pseudo[":method"] + " " + pseudo[":path"], host: pseudo[":authority"], fields: fields}
			if p := pseudo[":protocol"]; p != "" {
				h.fields = append(h.fields, "upgrade: "+p)
			}
			e.queue = append(e.queue, h)
		}
		e.ended = e.ended || f.StreamEnded()
	case *http2.DataFrame:
		if len(f.Data()) > 0 {
			e.got = append(e.got, bytes.Clone(f.Data()))
			if !e.hold {
				_ = e.f.WriteWindowUpdate(0, uint32(len(f.Data())))
				if !f.StreamEnded() {
					_ = e.f.WriteWindowUpdate(f.StreamID, uint32(len(f.Data())))
				}
			}
		}
		e.ended = e.ended || f.StreamEnded()
	case *http2.RSTStreamFrame:
		code := f.ErrCode
		e.reset = &code
	case *http2.GoAwayFrame:
		e.goaway = true
	}
	return nil
}

func (e *h2End) heads() (wireHead, error) {
	for len(e.queue) == 0 {
		if err := e.next(); err != nil {
			return wireHead{}, err
		}
	}
	h := e.queue[0]
	e.queue = e.queue[1:]
	return h, nil
}

func (e *h2End) body() (string, []string, error) {
	for !e.ended {
		if err := e.next(); err != nil {
			return string(bytes.Join(e.got, nil)), e.trail, err
		}
	}
	return string(bytes.Join(e.got, nil)), e.trail, nil
}

func (e *h2End) some() (string, error) {
	for len(e.got) == 0 {
		if e.ended {
			return "", io.EOF
		}
		if err := e.next(); err != nil {
			return "", err
		}
	}
	b := string(bytes.Join(e.got, nil))
	e.got = nil
	return b, nil
}

func (e *h2End) cancel() { _ = e.f.WriteRSTStream(e.stream, http2.ErrCodeCancel) }

func (e *h2End) cancelled() error {
	for {
		var reset http2.StreamError
		err := e.next()
		switch {
		case errors.As(err, &reset), errors.Is(err, io.EOF):
			return nil
		case err != nil && strings.Contains(err.Error(), "timeout"):
			return err
		case err != nil:
			return nil
		}
	}
}
