package http2

import "testing"

// exchangers are two ends that have greeted each other, and buffers for what they write.
type exchangers struct {
	*pair
	request  RequestHead
	sent     []field // of a request
	answered []field
	text     []byte
	payload  []byte
	next     int
}

type field struct{ name, value []byte }

func fieldsOf(s ...string) (all []field) {
	for i := 0; i < len(s); i += 2 {
		all = append(all, field{[]byte(s[i]), []byte(s[i+1])})
	}
	return all
}

// browserlike is what http1's benchmark reads: eight fields, 400 bytes.
func browserlike(t testing.TB) *exchangers {
	return &exchangers{
		pair:    newPair(t, Settings{}),
		request: RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/catalog/items/0000?lang=en")},
		sent: fieldsOf("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", "accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
			"accept-language", "en-US,en;q=0.5", "accept-encoding", "gzip, deflate, br", "cookie", "session=0123456789abcdef0123456789abcdef", "x-request-id", "0b8e2f6c-7a0e-4a3c-9d52-0e8f1a2b3c4d"),
		answered: fieldsOf("server", "nginx", "date", "Mon, 23 Nov 2026 00:00:00 GMT", "content-type", "application/json", "content-length", "1024", "etag", `"5f1d-61a"`, "accept-ranges", "bytes"),
		payload:  make([]byte, 1024),
	}
}

// grpclike is a unary call with little in it.
func grpclike(t testing.TB) *exchangers {
	return &exchangers{
		pair:     newPair(t, Settings{}),
		request:  RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/shop.Orders/Get")},
		sent:     fieldsOf("content-type", "application/grpc", "user-agent", "grpc-go/1.85.0", "te", "trailers", "grpc-timeout", "999945u"),
		answered: fieldsOf("content-type", "application/grpc"),
		payload:  make([]byte, 64),
	}
}

// exchange is one request with an answer, trailers and all, through both ends.
func (x *exchangers) exchange(grpc bool) {
	x.next++
	if !grpc { // another path each time, of the same length
		for i, n := 0, x.next; i < 4; i, n = i+1, n/10 {
			x.request.Path[18-i] = byte('0' + n%10)
		}
	}
	id, err := x.client.OpenStream()
	if err != nil {
		x.t.Fatal(err)
	}
	out := x.client.BeginRequest(x.toServer[:0], id, &x.request)
	for _, f := range x.sent {
		out = x.client.AppendField(out, f.name, f.value)
	}
	out = x.client.EndHead(out, !grpc)
	if grpc {
		out, _ = x.client.AppendData(out, id, x.payload, true)
	}
	x.toServer = out
	var ev Event
	for in := out; len(in) > 0; {
		n, err := x.server.Next(in, &ev)
		if n == 0 || err != nil {
			x.t.Fatal(n, err)
		}
		in = in[n:]
		switch ev.Kind {
		case KindHead:
			x.text = ev.Head.AppendRequestText(x.text[:0])
		case KindData:
			x.server.Consumed(ev.Stream, len(ev.Payload))
		}
	}
	out = x.server.BeginResponse(x.toClient[:0], id, 200)
	for _, f := range x.answered {
		out = x.server.AppendField(out, f.name, f.value)
	}
	out = x.server.EndHead(out, false)
	out, _ = x.server.AppendData(out, id, x.payload, !grpc)
	if grpc {
		out = x.server.BeginTrailers(out, id)
		out = x.server.appendFieldString(out, "grpc-status", "0")
		out = x.server.appendFieldString(out, "grpc-message", "")
		out = x.server.EndHead(out, true)
	}
	x.toClient = out
	for in := out; len(in) > 0; {
		n, err := x.client.Next(in, &ev)
		if n == 0 || err != nil {
			x.t.Fatal(n, err)
		}
		in = in[n:]
		switch ev.Kind {
		case KindHead:
			x.text = ev.Head.AppendResponseText(x.text[:0], nil)
		case KindTrailers:
			x.text = ev.Head.AppendTrailersText(x.text[:0])
		case KindData:
			x.client.Consumed(ev.Stream, len(ev.Payload))
		}
	}
	// Windows of the connection, now and then.
	x.back(x.server, x.client)
	x.back(x.client, x.server)
}

func (x *exchangers) back(from, to *Conn) {
	if !from.HasOutput() {
		return
	}
	x.text = from.Output(x.text[:0])
	var ev Event
	for in := x.text; len(in) > 0; {
		n, err := to.Next(in, &ev)
		if err != nil {
			x.t.Fatal(err)
		}
		in = in[n:]
	}
}

func TestAnExchangeAllocatesNothing(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		x := browserlike(t)
		if grpc {
			x = grpclike(t)
		}
		for range 300 { // warm: tables, ring of closed streams
			x.exchange(grpc)
		}
		if n := testing.AllocsPerRun(1000, func() { x.exchange(grpc) }); n != 0 {
			t.Errorf("%v allocations an exchange, grpc %v", n, grpc)
		}
		if x.client.Streams()+x.server.Streams() != 0 {
			t.Error("streams are left")
		}
	}
}

// BenchmarkExchange is both ends' part of one exchange: four heads written and read, twice
// as much as a proxy does on one side.
func BenchmarkExchange(b *testing.B) {
	x := browserlike(b)
	b.ReportAllocs()
	for b.Loop() {
		x.exchange(false)
	}
}

// BenchmarkGRPC is both ends' part of one unary call.
func BenchmarkGRPC(b *testing.B) {
	x := grpclike(b)
	b.ReportAllocs()
	for b.Loop() {
		x.exchange(true)
	}
}

// BenchmarkReadHuffman is reading a head whose strings are compressed, as browsers and
// Go programs send what is not in the table.
func BenchmarkReadHuffman(b *testing.B) {
	var d decoder
	d.init()
	var h Head
	block := []byte("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x04\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff")
	b.ReportAllocs()
	for b.Loop() {
		h.reset(requestForm)
		d.begin()
		if err := d.decode(block, &h); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkData is a body of 1 MiB in frames of 16 KiB.
func BenchmarkData(b *testing.B) {
	x := newPair(b, Settings{StreamWindow: 4 << 20})
	id, _ := x.client.OpenStream()
	out := x.client.EndHead(x.client.BeginRequest(nil, id, &RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}), false)
	x.toServer = out
	x.settle(nil)
	payload := make([]byte, 1<<20)
	var ev Event
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	var back []byte
	for b.Loop() {
		for rest := payload; len(rest) > 0; {
			var n int
			out, n = x.client.AppendData(out[:0], id, rest, false)
			rest = rest[n:]
			for in := out; len(in) > 0; {
				n, err := x.server.Next(in, &ev)
				if err != nil || n == 0 {
					b.Fatal(n, err)
				}
				in = in[n:]
				if ev.Kind == KindData {
					x.server.Consumed(id, len(ev.Payload))
				}
			}
			back = x.server.Output(back[:0])
			for in := back; len(in) > 0; {
				n, err := x.client.Next(in, &ev)
				if err != nil || n == 0 {
					b.Fatal(n, err)
				}
				in = in[n:]
			}
		}
	}
}

// BenchmarkHash is what finding a field in the table begins with.
func BenchmarkHash(b *testing.B) {
	name, value := []byte("accept-language"), []byte("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	for b.Loop() {
		hashOf(name, value)
	}
}
