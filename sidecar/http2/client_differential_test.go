package http2

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// FuzzClientAgainstNetHTTP2 is FuzzAgainstNetHTTP2 with the roles changed: frames of a
// server go to our client and to that of x/net, which have a GET, a HEAD and a POST open on
// streams 1, 3 and 5.
//
// x/net's client is laxer: it takes frames of streams that are closed or were never opened,
// :status of any number, connection-specific fields, te, a repeated or malformed
// content-length. So what we refuse ends the script; what we take it has to take, and as the same.
func FuzzClientAgainstNetHTTP2(f *testing.F) {
	log.SetOutput(io.Discard) // where x/net's client says what it thinks of a server
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	for i := range answers {
		f.Add([]byte{1, 5, 0, 0, 1, byte(i)})
		f.Add([]byte{1, 4, 0, 0, 1, byte(i), 0, 1, 0, 3})
		f.Add([]byte{1, 4, 1, 0, 1, byte(i), 0, 0, 1, 3, 1, 5, 1, 200, 1, byte(i)})
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) { compareClients(t, in) })
	})
}

// answers has the fields of which responses are made.
var answers = []string{
	":status: 200", ":status: 204", ":status: 304", ":status: 100", ":status: 103", ":status: 101", ":status: 99", ":status: 1000", ":status: x", ":path: /", ":x: y",
	"content-length: 0", "content-length: 3", "content-length: x", "transfer-encoding: chunked", "connection: close", "te: trailers", "upgrade: x", "host: a",
	"A: b", "a: b", "a: c\r\nd", "a:  b", "a: b ", "a: ", "a b: c", "trailer: t", "t: u", "a: \x7f", "a: \xff", "a: \x00", "grpc-status: 0", "set-cookie: a", "date: x",
}

func (s *script) answer(how byte) string {
	var fs []string
	if how < 200 {
		fs = []string{":status: " + []string{"200", "200", "204", "103", "404"}[how%5]}
	}
	for range s.next() % 5 {
		fs = append(fs, answers[int(s.next())%len(answers)])
	}
	return block(fs...)
}

// explainClient says why we may take o where x/net makes x of it. bodiless are the streams
// whose answer has a content-length and no body.
func explainClient(o, x outcome, in string, bodiless map[uint32]bool) string {
	switch h := parseFrameHeader([]byte(in)); {
	case h.stream == 3 && !o.ended && (h.typ == frameHeaders || h.typ == frameContinuation):
		return "x/net's answer to a HEAD is not there before its stream ends"
	case o.request == x.request && o.ended && bodiless[h.stream]:
		return "204 has no content-length, that of 304 is another's (RFC 9110 §8.6): we pass over it, x/net waits for as much"
	case x.over && o.why != "":
		return "x/net ends the connection when CONTINUATION follows a field that is malformed"
	case x.over && h.typ == frameSettings && h.length >= 6:
		return "as in explain"
	}
	return ""
}

func startNetClient(t *testing.T) *peer {
	near, far := net.Pipe()
	p := &peer{conn: near}
	go func() {
		preface := make([]byte, len(clientPreface))
		if _, err := io.ReadFull(near, preface); err != nil {
			return
		}
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
				p.note(func(o *outcome) { o.over = o.over || f.ErrCode != xhttp2.ErrCodeNo })
			}
		}
	}()
	cc, err := new(xhttp2.Transport).NewClientConn(far)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD", "POST"} {
		go func() {
			var body io.Reader
			if method == "POST" {
				body = strings.NewReader("")
			}
			r, _ := http.NewRequest(method, "http://a/", body)
			a, err := cc.RoundTrip(r)
			if err != nil {
				return
			}
			p.note(func(o *outcome) { o.request = describeNetResponse(a) })
			if _, err := io.Copy(io.Discard, a.Body); err == nil {
				p.note(func(o *outcome) { o.ended = true })
			}
			a.Body.Close()
		}()
		synctest.Wait()
	}
	return p
}

func describeNetResponse(a *http.Response) string {
	var fs []string
	for name, values := range a.Header {
		for _, v := range values {
			fs = append(fs, strings.ToLower(name)+": "+v)
		}
	}
	slices.Sort(fs)
	return strings.Join(append([]string{strconv.Itoa(a.StatusCode)}, fs...), "|")
}

func compareClients(t *testing.T, in []byte) {
	theirs := startNetClient(t)
	defer func() {
		theirs.conn.Close()
		time.Sleep(10 * time.Minute)
	}()
	ours := open(t, false, Settings{})
	for _, method := range []string{"GET", "HEAD", "POST"} {
		id, _ := ours.OpenStream()
		ours.EndHead(ours.BeginRequest(nil, id, &RequestHead{Method: []byte(method), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}), true)
	}
	io.WriteString(theirs.conn, greeting(false))
	s := script{in: in, client: true}
	bodiless := map[uint32]bool{}
	var played []string
	for len(s.in) > 0 {
		one := s.frame()
		played = append(played, fmt.Sprintf("%q", one))
		if frameType(one[3]) == frameGoAway {
			return // x/net fails what has no answer yet and closes
		}
		synctest.Wait()
		theirs.note(func(o *outcome) { *o = outcome{} })
		io.WriteString(theirs.conn, one)
		synctest.Wait()
		var x outcome
		theirs.note(func(o *outcome) { x = *o })
		o := playAnswer(t, ours, one)
		if status, fields, _ := strings.Cut(o.request, "|"); status == "204" || status == "304" {
			bodiless[be32([]byte(one[5:]))] = strings.Contains(fields, "content-length: ")
		}
		if !o.same(x) {
			if !o.reset && !o.over && explainClient(o, x, one, bodiless) == "" {
				disagree(t, played, o, x)
			}
			return
		}
		if o.over || x.over {
			return
		}
	}
}

// playAnswer gives one frame to our client.
func playAnswer(t *testing.T, c *Conn, in string) (o outcome) {
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
			if ev.Head.Status() >= 200 {
				var fs []string
				for rest := ev.Head.lines; len(rest) > 0; {
					var n, v []byte
					n, v, rest = CutField(rest)
					if string(n) != "trailer" {
						fs = append(fs, string(n)+": "+string(v))
					}
				}
				slices.Sort(fs)
				o.request = strings.Join(append([]string{strconv.Itoa(ev.Head.Status())}, fs...), "|")
			}
		case KindReset:
			o.reset, o.why = ev.Local, ev.Text
		case KindData:
			c.Consumed(ev.Stream, len(ev.Payload))
		}
		o.ended = o.ended || ev.End
	}
	if c.receiver.framing.block || frameType(in[3]) == frameContinuation {
		o.why = c.receiver.block.head.fault // which the end of the head will tell, if the stream is open
	}
	c.Output(nil)
	return o
}
