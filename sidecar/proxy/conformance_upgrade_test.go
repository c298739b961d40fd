package proxy

import (
	"strings"
	"testing"
)

func TestWebSocketsPassWhateverIsSpoken(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /ws", host: "a", fields: []string{
			"upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
		}}, false)
		p, h := s.accept()
		method := "GET /ws"
		if s.program == 2 {
			method = "CONNECT /ws"
		}
		s.is("request", h.first, method)
		s.is("upgrade", h.has("upgrade"), "websocket")
		s.is("version", h.has("sec-websocket-version"), "13")
		if key := h.has("sec-websocket-key"); (key != "") != (s.program == 1) {
			t.Errorf("key %q", key)
		}
		p.head(wireHead{first: "101", fields: []string{"upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}}, false)
		h = s.heads(c)
		if s.client == 1 {
			s.is("answer", h.first+" "+h.has("sec-websocket-accept"), "101 s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
		} else {
			s.is("answer", h.first+" "+h.has("sec-websocket-accept"), "200 ")
		}
		rawC, rawP := tunnel(c), tunnel(p)
		for _, word := range []string{"a", strings.Repeat("b", 30_000), "c"} {
			rawC.send(word)
			s.is("to the program", rawP.receive(len(word)), word)
			rawP.send(word)
			s.is("to the client", rawC.receive(len(word)), word)
		}
		c.cancel()
		if err := p.cancelled(); err != nil {
			t.Error(err)
		}
	})
}

func TestAWebSocketThatIsRefusedIsAnAnswer(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /ws", host: "a", fields: []string{
			"upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
		}}, false)
		p, _ := s.accept()
		p.head(wireHead{first: "403", fields: []string{"content-length: 2"}}, false)
		p.data("no", true)
		s.is("status", s.heads(c).first, "403")
		s.body(c, "no")
	})
}

// wireTunnel is what an upgraded end has become.
type wireTunnel struct{ e wireEnd }

func tunnel(e wireEnd) wireTunnel { return wireTunnel{e} }

func (w wireTunnel) send(b string) {
	if e, ok := w.e.(*h1End); ok {
		_, _ = e.c.Write([]byte(b))
		return
	}
	w.e.data(b, false)
}

func (w wireTunnel) receive(n int) string {
	var got strings.Builder
	for got.Len() < n {
		if e, ok := w.e.(*h1End); ok {
			b := make([]byte, n-got.Len())
			k, err := e.r.Read(b)
			got.Write(b[:k])
			if err != nil {
				break
			}
			continue
		}
		b, err := w.e.some()
		got.WriteString(b)
		if err != nil {
			break
		}
	}
	return got.String()
}
