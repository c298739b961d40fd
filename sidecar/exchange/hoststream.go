package exchange

import (
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// hostStream is the host's end of an attempt that is a stream of a connection that speaks
// HTTP/2. It serves one attempt after the other.
type hostStream struct {
	stream *streams.Stream
	reader bodyReader
	writer bodyWriter
	head   http2.RequestHead // of the request
}

// take makes h the end of a stream.
func (h *hostStream) take(s *streams.Stream) *hostStream {
	h.stream = s
	h.reader.begin(s, false)
	h.writer.begin(s)
	return h
}

// Read reads of the answer's body.
func (h *hostStream) Read(b []byte) (int, error) { return h.reader.read(b) }

// Write writes of the request's body.
func (h *hostStream) Write(b []byte) (int, error) { return h.writer.write(b) }

// SetReadDeadline bounds what is read of the host.
func (h *hostStream) SetReadDeadline(t time.Time) error { return h.stream.SetReadDeadline(t) }

// SetWriteDeadline bounds what is written to the host.
func (h *hostStream) SetWriteDeadline(t time.Time) error { return h.stream.SetWriteDeadline(t) }

func (h *hostStream) lookBy(_, t time.Time) { _ = h.stream.SetReadDeadline(t) }

// Abort resets the stream: nobody waits for the answer any more.
func (h *hostStream) Abort() error { return h.stream.Abort() }

func (h *hostStream) ready() bool { return len(h.reader.tail) > 0 || h.stream.Ready() }

func (h *hostStream) await() error { return h.stream.Await() }

func (h *hostStream) relayed() relay.Conn { return h.stream }

// errNoUpgrade is why a request that offers an upgrade cannot be sent.
var errNoUpgrade = errors.New("it does not take other protocols over HTTP/2 (RFC 8441)")

// send writes the head and what there is of the body, at once.
func (h *hostStream) send(x *exchange, body []byte) error {
	r, o, f := &x.req, &x.rewrite, &h.writer.fields
	f.reset()
	head := &h.head
	*head = http2.RequestHead{Method: r.MethodName(), Scheme: schemeOf(r, o), Protocol: r.Upgrade()}
	f.scratch = r.AppendTarget(f.scratch, o.Path)
	head.Path = f.scratch
	if head.Authority = r.Host(); o.Authority != "" || len(head.Authority) == 0 {
		from := len(f.scratch)
		f.scratch = append(f.scratch, cmp.Or(o.Authority, o.Host)...)
		head.Authority = f.scratch[from:]
	}
	upgrade := len(head.Protocol) > 0
	if body := r.Body(); upgrade && !body.Done() {
		return errNoUpgrade // the tunnel has no place for a body before it
	}
	if upgrade && !x.lease.ToSidecar() && !h.stream.Conn().ExtendedConnect() {
		return errNoUpgrade
	}
	r.EachField(o, func(one http1.Field) {
		if !upgrade || !one.Is(webSocketKey) {
			f.add(one)
		}
	})
	h.writer.body = r.Body()
	_ = h.stream.SetWriteDeadline(x.sendBy)
	if h.writer.body.Done() && !upgrade {
		return h.stream.WriteRequest(head, f.list, true)
	}
	h.stream.Cork()
	err := h.stream.WriteRequest(head, f.list, false)
	if err != nil {
		return err
	}
	_, err = h.writer.write(body)
	if err != nil && closedInPeace(err) {
		return nil // the answer is here already, and no more of the request is wanted
	}
	return err
}

// closedInPeace reports whether the host has reset a stream because it wants no more of the
// request (RFC 9113 §8.1).
func closedInPeace(err error) bool {
	var reset *streams.ResetError
	return errors.As(err, &reset) && reset.Remote && reset.Code == http2.NoError
}

// closed reports whether the host takes no more of the request.
func (h *hostStream) closed() bool { return h.stream.Err() != nil }

// schemeOf is how the client's request came, as far as one has said.
func schemeOf(r *http1.Request, o *http1.RequestRewrite) string {
	proto := r.Value("x-forwarded-proto")
	if proto == nil || o.Outside {
		proto = nil
	}
	if equalFold(proto, "https") || proto == nil && o.Proto == "https" {
		return "https"
	}
	return "http"
}

// readHead reads the next answer's head into x.back, and what is there of its body.
func (h *hostStream) readHead(x *exchange) (bool, error) {
	text, end, err := h.stream.ReadHead(x.back[:0])
	x.back = text[:cap(text)]
	x.headEnd, x.filled = 0, 0
	switch {
	case errors.Is(err, streams.ErrHeadTooLarge):
		return false, http1.ErrHeadTooLarge
	case err != nil:
		return false, err
	}
	if key := x.req.Value(webSocketKey); key != nil && len(text) > 12 && string(text[9:12]) == "101" && x.req.Upgrade() != nil {
		text = append(text[:len(text)-2], webSocketAccept+": "...)
		text = append(appendAccept(text, key), "\r\n\r\n"...)
		x.back = text[:cap(text)]
	}
	n, err := x.resp.Parse(text)
	if err == nil && n != len(text) {
		err = http1.ErrStatusLine
	}
	if err != nil {
		return false, err
	}
	x.headEnd, x.filled = n, n
	if x.resp.Status < 200 {
		return true, nil
	}
	body := x.resp.Body(x.req.Method == http1.Head)
	if !body.Done() && !body.Chunked() && mayTrail(&x.resp) {
		x.resp.Unbound()
		body = x.resp.Body(false)
	}
	h.reader.begin(h.stream, body.Chunked())
	if !end && !body.Done() && h.stream.Ready() {
		x.filled += readAhead(&h.reader, x.back[n:])
	}
	return true, nil
}

// appendAccept appends what answers a WebSocket's key (RFC 6455 §4.2.2).
func appendAccept(dst, key []byte) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	sum := sha1.Sum(append(append([]byte(nil), key...), guid...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// reusable waits for the stream's end, which most often is here already: one that is let go of
// before is reset, and hosts count these.
func (h *hostStream) reusable(x *exchange) bool {
	if h.stream.Ended() {
		return true
	}
	_ = h.stream.SetReadDeadline(time.Now().Add(lingerTimeout))
	var b [minRead]byte
	for n := 0; n == 0; {
		var err error
		if n, err = h.stream.Read(b[:]); err != nil {
			break
		}
	}
	return true
}
