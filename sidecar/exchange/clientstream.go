package exchange

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// clientStream is the client's end of an exchange that came as a stream of a connection that
// speaks HTTP/2. It serves one stream after the other.
type clientStream struct {
	session
	own    Client // of the stream
	stream *streams.Stream
	reader bodyReader
	writer bodyWriter
	kept   bool        // others may know of own after the stream
	failed error       // writing a head did
	ended  func(error) // what the stream calls when the client has reset it
}

var clientStreams = sync.Pool{New: func() any {
	c := &clientStream{}
	c.ended = func(error) { c.cancel() }
	return c
}}

// cancel ends the attempt that runs when the client has reset the stream. It is called on the
// goroutine that reads the client's connection; late, when another stream is served, it does
// nothing.
func (c *clientStream) cancel() {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	if c.stream != nil && c.stream.Err() != nil {
		c.own.leftLocked()
	}
}

// take makes c the end of a stream.
func (c *clientStream) take(s *streams.Stream) {
	c.own.mu.Lock()
	c.stream = s
	c.own.mu.Unlock()
	c.reader.begin(s, false)
	c.writer.begin(s)
	c.failed = nil
	s.OnEnd(c.ended)
}

// drop lets go of the stream.
func (c *clientStream) drop() {
	c.own.mu.Lock()
	c.stream = nil
	c.own.mu.Unlock()
}

// readHead reads the request's head into c.req and reports whether it is one. What has come of
// the body is in[from:to].
func (c *clientStream) readHead() bool {
	text, end, err := c.stream.ReadHead(c.in[:0])
	c.in = text[:cap(text)]
	c.req.Reset()
	c.req.LeaveRoom = c.s.Outbound
	switch {
	case errors.Is(err, streams.ErrHeadTooLarge):
		c.refuse(badRequest(http1.ErrHeadTooLarge))
		return false
	case err != nil:
		return false
	}
	n, err := c.req.Parse(text)
	if err == nil && n != len(text) {
		err = http1.ErrRequestLine
	}
	if err == nil && equalFold(c.req.Upgrade(), "websocket") && c.req.Value(webSocketKey) == nil {
		// HTTP/1.1 has one, HTTP/2 does not (RFC 8441 §5).
		text = append(text[:len(text)-2], webSocketKey+": "...)
		text = append(appendKey(text), "\r\n\r\n"...)
		c.in = text[:cap(text)]
		c.req.Reset()
		n, err = c.req.Parse(text)
	}
	if err != nil {
		c.refuse(badRequest(err))
		return false
	}
	c.from, c.to = n, n
	body := c.req.Body()
	if !body.Done() && !body.Chunked() && mayTrail(&c.req) {
		c.req.Unbound()
		body = c.req.Body()
	}
	c.reader.begin(c.stream, body.Chunked())
	if !end && !body.Done() && c.stream.Ready() {
		c.to += readAhead(&c.reader, c.in[n:])
	}
	return true
}

// mayTrail reports whether fields may follow the body of a message: it says so, or is of gRPC.
func mayTrail(head interface{ Value(string) []byte }) bool {
	return isGRPC(head.Value("content-type")) || head.Value("trailer") != nil
}

// readAhead reads what is there already, without waiting. An error comes again.
func readAhead(r *bodyReader, b []byte) int {
	if len(b) < minRead {
		return 0
	}
	n, _ := r.read(b)
	return n
}

// Read reads of the request's body.
func (c *clientStream) Read(b []byte) (int, error) { return c.reader.read(b) }

// Write writes of the answer's body.
func (c *clientStream) Write(b []byte) (int, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	return c.writer.write(b)
}

// SetReadDeadline bounds what is read of the client.
func (c *clientStream) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline bounds what is written to the client.
func (c *clientStream) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

func (c *clientStream) ready() bool { return len(c.reader.tail) > 0 || c.stream.Ready() }

func (c *clientStream) await() error { return c.stream.Await() }

func (c *clientStream) gone() bool { return c.own.hasLeft() }

// abort resets the stream; of a call the status says that the answer broke off.
func (c *clientStream) abort() {
	x := &c.x
	if !x.grpc || x.status != 200 || x.grpcStatus != noStatus || c.own.hasLeft() || !isGRPC(x.resp.Value("content-type")) {
		c.stream.Reset(http2.InternalError)
		return
	}
	r := LocalReply{503, cmp.Or(x.reason, responseIncomplete), cmp.Or(x.detail, "the answer broke off"), ""}
	x.grpcStatus = r.grpcStatus()
	_ = c.stream.SetWriteDeadline(time.Now().Add(lingerTimeout))
	c.writer.fields.reset()
	c.writer.fields.list = append(c.writer.fields.list,
		streams.Field{Name: []byte("grpc-status"), Value: strconv.AppendInt(nil, int64(x.grpcStatus), 10)},
		streams.Field{Name: []byte("grpc-message"), Value: []byte("the answer broke off")})
	if c.stream.WriteTrailers(c.writer.fields.list) != nil {
		c.stream.Reset(http2.InternalError)
	}
}

// relayed returns the stream, which is open by itself from now on.
func (c *clientStream) relayed() relay.Conn {
	c.kept = true
	c.own.Open = c.s.Conns.Add(c.endRelayed, nil)
	return c.stream
}

// endRelayed is Client.End of the stream that an upgrade has made a relay. It may come late,
// when the stream is another's: then it does nothing.
func (c *clientStream) endRelayed(error) {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	if c.stream != nil {
		_ = c.stream.Abort()
		c.own.leftLocked()
	}
}

// appendHead queues the head, which leaves with what is written next. 101 is said by 200.
func (c *clientStream) appendHead(dst []byte, r *http1.Response, o http1.ResponseRewrite, last bool) []byte {
	status := r.Status
	c.writer.fields.reset()
	r.EachField(&o, func(f http1.Field) {
		if status != 101 || !f.Is(webSocketAccept) {
			c.writer.fields.add(f)
		}
	})
	c.writer.body = r.Body(o.Bodiless)
	if status == 101 {
		status = 200
	}
	c.stream.Cork()
	c.failed = c.stream.WriteResponse(status, c.writer.fields.list, last)
	return dst
}

func (c *clientStream) reply(r LocalReply, _ bool) {
	c.writeReply(r, c.req.Method == http1.Head, c.x.mark)
}

// writeReply writes an answer of the mesh itself.
func (c *clientStream) writeReply(r LocalReply, bodiless bool, mark string) {
	now := time.Now()
	c.out = c.appendReply(c.out[:0], now, r, false, bodiless, mark)
	_ = c.stream.SetWriteDeadline(now.Add(lingerTimeout))
	c.writeLimit = streamDeadline{}
	c.resp.Reset()
	n, err := c.resp.Parse(c.out)
	if err != nil {
		c.stream.Reset(http2.InternalError)
		return
	}
	c.appendHead(nil, &c.resp, http1.ResponseRewrite{Bodiless: bodiless}, n == len(c.out))
	_, _ = c.Write(c.out[n:]) // the client may be gone
}

func (c *clientStream) refuse(r LocalReply) {
	c.s.Metrics.localReply(r.Reason)
	c.s.Log.Debug("refused a request", "peer_addr", c.client.PeerAddr(), "code", r.Status, "reason", r.Reason, "err", r.logged())
	c.writeReply(r, false, "")
}

// finish ends our direction, if the body has not. What of the request is not read yet is not
// wanted any more: the stream is then reset without an error (RFC 9113 §8.1).
func (c *clientStream) finish(bool) bool {
	if c.writer.body.UntilClose() && c.failed == nil {
		_ = c.stream.CloseWrite() // the client may be gone
	}
	c.x.log()
	return false
}

// The fields of a WebSocket's beginning that HTTP/1.1 alone has (RFC 6455 §4.2).
const (
	webSocketKey    = "sec-websocket-key"
	webSocketAccept = "sec-websocket-accept"
)

// appendKey appends a nonce, which protects nothing.
func appendKey(dst []byte) []byte {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	return base64.StdEncoding.AppendEncode(dst, b[:])
}
