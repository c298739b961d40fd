package http2

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	xhttp2 "golang.org/x/net/http2"
)

// FuzzAgainstNetHTTP2 plays frames, one after another, to our server and to that of x/net
// and compares after each what they made of it: the request that a handler sees, a body
// that ended, a stream that was reset, a connection that ended. The frames are made of
// the input by script, so that most of them mean something.
//
// Where the two disagree the script ends, and the disagreement has to be one of those
// explained in explain.
func FuzzAgainstNetHTTP2(f *testing.F) {
	for _, s := range []string{
		"\x01\x05\x00\x00\x00", "\x01\x04\x00\x00\x00\x00\x01\x00\x03", "\x01\x04\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00",
		"\x01\x00\x00\x00\x00\x09\x05\x00\x00\x00", "\x04\x00\x06\x02\x04\x03", "\x08\x00\x06\x00\x01\x05\x00\x05\x01\x02\x03\x04\x05",
		"\x01\x05\x00\x01\x01\x01\x05\x01\x01\x02\x01\x05\x02\x01\x03\x01\x05\x03\x01\x04",
	} {
		f.Add([]byte(s))
	}
	for i := range 64 { // each field of the dictionary once, behind a good head
		f.Add([]byte{1, 5, 0, 0, 1, byte(i)})
		f.Add([]byte{1, 4, 0, 0, 1, byte(i), 0, 1, 0, 3})
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) { compare(t, in) })
	})
}

func TestWeAgreeWithNetHTTP2OnEachKindOfFrame(t *testing.T) {
	for typ := range byte(12) {
		for flags := range byte(16) {
			for _, stream := range []byte{0, 1, 5, 6} { // streams 1, 3, 2 and 0
				for _, before := range []string{"", "\x01\x05\x00\x00\x00", "\x01\x04\x00\x00\x00"} { // nothing, a request, one with a body to come
					for _, size := range []byte{0, 200} {
						in := append([]byte(before), typ, flags|flags&2<<4, stream, size, 2, 3, 4, 5)
						t.Run(fmt.Sprintf("%q", in), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) { compare(t, in) })
						})
					}
				}
			}
		}
	}
}

// dictionary has the fields of which heads are made.
var dictionary = []string{
	":method: GET", ":method: HEAD", ":method: CONNECT", ":method: OPTIONS", ":method: ", ":method: G T", ":scheme: http", ":scheme: https",
	":scheme: ftp", ":path: /", ":path: *", ":path: /a?b=c", ":path: ", ":path: a", ":path: /a b", ":path: /%zz", ":path: //x", ":path: http://a/",
	":authority: a", ":authority: a:80", ":authority: ", ":authority: u@a", ":authority: a b", ":status: 200", ":protocol: websocket", ":x: y",
	"host: a", "host: shop.mesh", "host: b", "content-length: 0", "content-length: 3", "content-length: x", "transfer-encoding: chunked", "connection: close",
	"te: trailers", "te: gzip", "upgrade: h2c", "keep-alive: 1", "proxy-connection: 1", "cookie: a=b", "cookie: c=d", "A: b", "a: b", "a: c\r\nd", "a:  b",
	"a: b ", "a: ", "a b: c", "expect: 100-continue", "expect: x", "trailer: t", "trailer: host", "t: u", "http2-settings: x", "a: \x7f", "a: \xff", "a: \x00",
	"user-agent: x", "accept: */*", "date: x", "x-forwarded-for: 1.2.3.4", "authorization: x", "a_b: c", "range: bytes=0-1",
}

// script makes frames of bytes.
type script struct {
	in     []byte
	client bool // it is for a client
}

func (s *script) next() byte {
	if len(s.in) == 0 {
		return 0
	}
	b := s.in[0]
	s.in = s.in[1:]
	return b
}

func (s *script) frame() string {
	typ, flags := frameType(s.next()%12), s.next()
	stream := [...]uint32{1, 3, 5, 7, 9, 2, 0, 11}[s.next()%8]
	how := s.next()
	p := ""
	if flags&flagPadded != 0 && (typ == frameData || typ == frameHeaders) {
		p = string([]byte{how % 5})
	}
	switch typ {
	case frameData:
		p += strings.Repeat("x", int(how%9))
	case frameHeaders:
		if flags&flagPriority != 0 {
			p += u32([...]uint32{0, 1, 3}[how>>2%3]) + "\x01"
		}
		p += s.block(how)
	case framePriority:
		p = (u32([...]uint32{0, 1, 3}[how%3]) + "\x01xxx")[:[...]int{5, 5, 5, 4, 8}[how%5]]
	case frameResetStream:
		p = u32(8, 0)[:[...]int{4, 4, 4, 5}[how%4]]
	case frameSettings:
		if how >= 200 {
			p = "x"
		}
		for range how % 3 {
			v := s.next()
			p += setting(uint16(s.next()%10), [...]uint32{0, 1, 2, 100, 65535, 1<<24 - 1, 1 << 24, 1<<31 - 1, 1 << 31, 16384}[v%10])
		}
		if flags&flagAck != 0 && how < 200 {
			p = ""
		}
	case framePushPromise:
		p = u32(2) + s.block(how)
	case framePing:
		p = "01234567x"[:[...]int{8, 8, 8, 9}[how%4]]
	case frameGoAway:
		p = u32(0, 0, 0)[:[...]int{8, 12, 7}[how%3]]
	case frameWindowUpdate:
		p = u32([...]uint32{1, 1000, 0, 1<<31 - 1, 1 << 31}[how%5], 0)[:[...]int{4, 4, 4, 5}[how%4]]
	case frameContinuation:
		p = s.block(how)
	default:
		typ += 0x70
		p = "abc"
	}
	if flags&flagPadded != 0 && (typ == frameData || typ == frameHeaders) {
		p += strings.Repeat("\x00", int(how%5))
		if how > 230 { // padding that is too long
			p = "\xf0" + p[1:]
		}
	}
	return frame(typ, flags, stream, p)
}

// block makes a field block: a good head first, unless how says otherwise.
func (s *script) block(how byte) string {
	if s.client {
		return s.answer(how)
	}
	var fs []string
	if how < 200 {
		fs = []string{":method: POST", ":scheme: http", ":path: /", ":authority: shop.mesh"}
	}
	for range s.next() % 7 {
		fs = append(fs, dictionary[int(s.next())%len(dictionary)])
	}
	return block(fs...)
}

// outcome is what an end made of one frame.
type outcome struct {
	request string // a handler was called
	ended   bool   // a body, whole
	reset   bool   // a stream was reset, or its request refused
	over    bool   // the connection ended
	why     string // ours
}

func (o outcome) same(x outcome) bool {
	return o.request == x.request && o.ended == x.ended && o.reset == x.reset && o.over == x.over
}

// explain says why we may make o of a frame where x/net makes x of it; empty: no reason.
// refused is the highest stream whose head both refused before, reset are those that we
// have reset.
func explain(o, x outcome, in string, refused uint32, reset map[uint32]bool) string {
	h := parseFrameHeader([]byte(in))
	switch {
	case h.stream != 0 && h.stream <= refused:
		return "x/net does not count a stream whose head its framer refused: to it the stream is idle"
	case reset[h.stream]:
		return "we ignore what comes for a stream that we reset, as RFC 9113 §5.1 wants; x/net resets again or ends the connection"
	case o.reset && !x.over && !x.reset:
		// A head that we refuse, and that x/net takes or answers with 400 of its own.
		for _, stricter := range []string{
			"space around it",           // RFC 9113 §8.2.1: malformed; x/net takes it
			"neither :authority",        // §8.3.1: http wants one; x/net asks nobody
			"host that",                 // §8.3.1: SHOULD be refused; x/net drops host
			":authority that is not",    // §8.3.1: no userinfo, not empty; x/net takes anything
			":method that is not",       // RFC 9110 §9.1: a token; x/net takes anything
			":path that is not",         // §8.3.1: not empty, * is of OPTIONS; x/net parses a URL
			"content-length that",       // §8.1.1: x/net takes the first, or none for nonsense
			"content-length of a",       // RFC 9110 §9.3.6
			"connection of HTTP/1.1",    // §8.2.2: malformed; x/net answers some 400, takes http2-settings
			"te other",                  // §8.2.2: malformed; x/net answers 400
			"missing pseudo-header",     // §8.3.1: x/net takes an empty one for none
			":protocol that",            // RFC 8441: needs :method CONNECT
			"control bytes",             // x/net lets what it calls LWS pass
			"depends on itself",         // RFC 7540 §5.3.1; x/net does not look at trailers'
			"less DATA than content",    // §8.1.1: x/net tells the handler that reads
			"http1:",                    // the text is refused by http1
			"pseudo-header field that",  // §8.3: x/net takes :status beside none
			"repeated pseudo-header",    // §8.3
			"more streams than allowed", // other limits
		} {
			if strings.Contains(o.why, stricter) {
				return stricter
			}
		}
	case o.over && !x.over && h.typ == frameSettings && strings.Contains(in, "\x00\x08"):
		return "x/net does not look at a client's ENABLE_CONNECT_PROTOCOL; RFC 8441 §3 has 0 behind 1 a fault"
	case o.over && x.reset && o.why == ErrPadding.Error():
		return "x/net resets the stream; RFC 9113 §6.2 has it a fault of the connection"
	case o.reset && x.over && h.typ == framePriority && h.length != 5:
		return "x/net ends the connection; RFC 9113 §6.3 has it a fault of the stream"
	case x.over && h.typ == frameSettings && h.length >= 6:
		return "x/net refuses a setting that is said twice (RFC 9113 §6.5 has the last one count), and knows RFC 9218's"
	case h.typ == frameWindowUpdate && h.stream != 0 && x.reset:
		return "x/net looks at the increment first; RFC 9113 §5.1 has an idle stream a fault, a closed one none"
	case o.why != "" && !o.over && x.over && h.typ == frameContinuation:
		return "x/net ends the connection when CONTINUATION follows a field that is malformed; RFC 9113 §8.1.1 has it a fault of the stream"
	case x.reset && !o.reset && !o.over && o.ended && o.request == "" && (h.typ == frameHeaders || h.typ == frameContinuation):
		return "x/net refuses fields that no trailer may be, of those that were announced; here http1 does, of all"
	case o.over && h.typ == frameHeaders && (o.why == ErrStreamID.Error() || o.why == ErrClosedStream.Error()) && (x.reset || !h.has(flagEndHeaders)):
		return "we look at the stream first, x/net at the block"
	}
	return ""
}

type peer struct {
	mu   sync.Mutex
	now  outcome
	conn net.Conn
}

func (p *peer) note(f func(o *outcome)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.now)
}

// startNetHTTP2 serves a connection by x/net.
func startNetHTTP2() *peer {
	near, far := net.Pipe()
	p := &peer{conn: near}
	base, server := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}, new(xhttp2.Server)
	// Without it channels are pooled across bubbles.
	if err := xhttp2.ConfigureServer(base, server); err != nil {
		panic(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.note(func(o *outcome) { o.request = describeNetRequest(r) })
		if n, err := io.Copy(io.Discard, r.Body); err == nil && (r.ContentLength < 0 || n == r.ContentLength) {
			p.note(func(o *outcome) { o.ended = true })
		}
	})
	go server.ServeConn(far, &xhttp2.ServeConnOpts{BaseConfig: base, Handler: handler})
	go func() {
		framer := xhttp2.NewFramer(nil, near)
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				p.note(func(o *outcome) { o.over = true })
				return
			}
			switch f := f.(type) {
			case *xhttp2.RSTStreamFrame:
				p.note(func(o *outcome) { o.reset = true })
			case *xhttp2.GoAwayFrame:
				if f.ErrCode != xhttp2.ErrCodeNo {
					p.note(func(o *outcome) { o.over = true })
				}
			}
		}
	}()
	return p
}

func describeNetRequest(r *http.Request) string {
	var fs []string
	for name, values := range r.Header {
		for _, v := range values {
			if n := strings.ToLower(name); n != "cookie" && n != "host" && n != "trailer" {
				fs = append(fs, n+": "+v)
			}
		}
	}
	slices.Sort(fs)
	return strings.Join(append([]string{r.Method, r.RequestURI, r.Host, strings.Join(r.Header["Cookie"], "; ")}, fs...), "|")
}

func describeOurRequest(h *Head) (string, error) {
	text := h.AppendRequestText(nil)
	var q http1.Request
	if _, err := q.Parse(text); err != nil {
		return "", err
	}
	var fs []string
	for rest := h.lines; len(rest) > 0; {
		var n, v []byte
		n, v, rest = CutField(rest)
		if n := string(n); n != "trailer" && n != "expect" { // x/net takes them out
			fs = append(fs, string(n)+": "+string(v))
		}
	}
	if h.trailers {
		fs = append(fs, "te: trailers")
	}
	slices.Sort(fs)
	return strings.Join(append([]string{string(q.MethodName()), string(q.Target()), string(q.Host()), string(q.Value("cookie"))}, fs...), "|"), nil
}

func compare(t *testing.T, in []byte) {
	theirs := startNetHTTP2()
	defer func() {
		theirs.conn.Close()
		time.Sleep(time.Minute) // x/net lingers behind GOAWAY
	}()
	if _, err := io.WriteString(theirs.conn, greeting(true)); err != nil {
		t.Fatal(err)
	}
	ours := open(t, true, Settings{MaxStreams: 200})
	s := script{in: in}
	var played []string
	var refused uint32
	reset := map[uint32]bool{}
	for len(s.in) > 0 {
		one := s.frame()
		played = append(played, fmt.Sprintf("%q", one))
		synctest.Wait()
		theirs.note(func(o *outcome) { *o = outcome{} })
		io.WriteString(theirs.conn, one)
		synctest.Wait()
		var x outcome
		theirs.note(func(o *outcome) { x = *o })
		o := playOne(t, ours, one)
		if !o.same(x) {
			if explain(o, x, one, refused, reset) == "" {
				disagree(t, played, o, x)
			}
			return
		}
		h := parseFrameHeader([]byte(one))
		if o.over || x.over || h.typ == frameGoAway { // upon which x/net begins to shut down
			return
		}
		if o.reset {
			reset[h.stream] = true
			if h.typ == frameHeaders || h.typ == frameContinuation {
				refused = max(refused, h.stream)
			}
		}
	}
}

func disagree(t *testing.T, played []string, o, x outcome) {
	t.Fatalf("%s\n we: %+v\nnet: %+v", strings.Join(played, "\n"), o, x)
}

// playOne gives one frame to our server and answers what has ended.
func playOne(t *testing.T, c *Conn, in string) (o outcome) {
	var ev Event
	for b := []byte(in); len(b) > 0; {
		n, err := c.Next(b, &ev)
		if err != nil {
			o.over, o.why = true, err.Error()
			return o
		}
		if n == 0 {
			t.Fatalf("a whole frame is not enough: %q", in)
		}
		b = b[n:]
		switch ev.Kind {
		case KindHead:
			request, err := describeOurRequest(ev.Head)
			if err != nil {
				o.reset, o.why = true, "http1: "+err.Error()
				return o
			}
			o.request = request
		case KindReset:
			o.reset, o.why = ev.Local, ev.Text
		case KindData:
			c.Consumed(ev.Stream, len(ev.Payload))
		}
		if ev.End {
			o.ended = true
			c.EndHead(c.BeginResponse(nil, ev.Stream, 200), true)
		}
	}
	if c.receiver.framing.block {
		o.why = c.receiver.block.head.fault // which the end of the head will tell
	}
	c.Output(nil)
	return o
}
