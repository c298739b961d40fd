package http2

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// pair is a client and a server of this package, joined by memory.
type pair struct {
	t              testing.TB
	client, server *Conn
	toServer       []byte
	toClient       []byte
}

func newPair(t testing.TB, server Settings) *pair {
	p := &pair{t: t, client: NewClient(Settings{}), server: NewServer(server)}
	p.toServer = p.client.Start(nil)
	p.toClient = p.server.Start(nil)
	p.settle(nil)
	return p
}

// step gives one frame to an end; false: there was none.
func step(t testing.TB, c *Conn, in *[]byte, ev *Event) bool {
	n, err := c.Next(*in, ev)
	if err != nil {
		t.Fatal(err)
	}
	*in = (*in)[n:]
	return n > 0
}

// settle moves everything to and fro until nothing is left.
func (p *pair) settle(see func(c *Conn, ev *Event)) {
	var ev Event
	for {
		moved := false
		for step(p.t, p.server, &p.toServer, &ev) {
			moved = true
			if see != nil {
				see(p.server, &ev)
			}
		}
		p.toClient = p.server.Output(p.toClient)
		for step(p.t, p.client, &p.toClient, &ev) {
			moved = true
			if see != nil {
				see(p.client, &ev)
			}
		}
		p.toServer = p.client.Output(p.toServer)
		if !moved {
			return
		}
	}
}

func TestARequestAndItsAnswerGoThrough(t *testing.T) {
	p := newPair(t, Settings{})
	id, err := p.client.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	out := p.client.BeginRequest(p.toServer, id, &RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("shop.mesh:80"), Path: []byte("/cart?x=1")})
	out = p.client.appendFieldString(out, "Cookie", "a=b")
	out = p.client.appendFieldString(out, "cookie", "c=d")
	out = p.client.appendFieldString(out, "TE", "trailers")
	out = p.client.appendFieldString(out, "X-Y", "z")
	out = p.client.EndHead(out, false)
	p.toServer, _ = p.client.AppendData(out, id, []byte("hello"), true)
	var texts []string
	var payloads string
	p.settle(func(c *Conn, ev *Event) {
		switch {
		case ev.Kind == KindHead && c == p.server:
			texts = append(texts, string(ev.Head.AppendRequestText(nil)))
			p.toClient = c.BeginResponse(p.toClient, ev.Stream, 200)
			p.toClient = c.appendFieldString(p.toClient, "content-type", "text/plain")
			p.toClient = c.EndHead(p.toClient, false)
			p.toClient, _ = c.AppendData(p.toClient, ev.Stream, []byte("bye"), false)
			p.toClient = c.BeginTrailers(p.toClient, ev.Stream)
			p.toClient = c.appendFieldString(p.toClient, "grpc-status", "0")
			p.toClient = c.EndHead(p.toClient, true)
		case ev.Kind == KindHead:
			texts = append(texts, string(ev.Head.AppendResponseText(nil, nil)))
		case ev.Kind == KindData:
			payloads += string(ev.Payload)
		case ev.Kind == KindTrailers:
			texts = append(texts, string(ev.Head.AppendTrailersText(nil)))
		}
	})
	want := []string{
		"POST /cart?x=1 HTTP/1.1\r\nhost: shop.mesh:80\r\nx-y: z\r\ncookie: a=b; c=d\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 \r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
		"grpc-status: 0\r\n",
	}
	for i := range want {
		if i >= len(texts) || texts[i] != want[i] {
			t.Fatalf("text %d: got %q, want %q", i, texts, want[i])
		}
	}
	if payloads != "hellobye" || p.client.Streams() != 0 || p.server.Streams() != 0 {
		t.Fatal(payloads, p.client.Streams(), p.server.Streams())
	}
	var q http1.Request
	if n, err := q.Parse([]byte(texts[0])); n != len(texts[0]) || err != nil {
		t.Fatal(n, err)
	}
	var r http1.Response
	if n, err := r.Parse([]byte(texts[1])); n != len(texts[1]) || err != nil {
		t.Fatal(n, err)
	}
}
