package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// grpcRequestSize is how long the message of a call is, in bytes.
const grpcRequestSize = 128

// grpcMessage puts gRPC's five bytes before a message.
func grpcMessage(m string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// http2 is the client's side of a connection.
type http2 struct {
	link
	decoder *hpack.Decoder
	grpc    bool
	fields  []hpack.HeaderField
	heads   heads
	data    []byte // of a request
	answer  []byte
	last    uint32 // stream
	open    map[uint32]answering
	status  string // of the head that was just read
	grpcOK  bool
}

// answering is how far the answer of a stream has come.
type answering struct {
	head bool
	got  int
}

func newHTTP2(o Options) *http2 {
	h := &http2{link: newLink(), grpc: o.Protocol == GRPC, answer: []byte(o.Answer), open: map[uint32]answering{}}
	h.fields = []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: o.Authority},
	}
	if h.grpc {
		h.fields[0].Value, h.fields[2].Value = "POST", "/bench.Orders/Get"
		h.fields = append(h.fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"},
			hpack.HeaderField{Name: "te", Value: "trailers"}, hpack.HeaderField{Name: "user-agent", Value: "isthmus-bench"})
		h.data = grpcMessage(strings.Repeat("r", grpcRequestSize))
		h.answer = grpcMessage(o.Answer)
	}
	h.decoder = hpack.NewDecoder(ourTableSize, func(f hpack.HeaderField) {
		switch f.Name {
		case ":status":
			h.status = f.Value
		case "grpc-status":
			h.grpcOK = f.Value == "0"
		}
	})
	return h
}

func (h *http2) hello(out []byte) []byte { return appendHello(append(out, preface...)) }
func (h *http2) spent() bool             { return false }
func (h *http2) ready() bool {
	return h.settled && h.window >= len(h.data) && h.perStream >= len(h.data) && uint32(len(h.open)) < h.streams
}

func (h *http2) request(out []byte) ([]byte, uint32) {
	id := uint32(1)
	if h.last == 0 {
		h.heads = encodeHeads(h.tableSize, h.fields)
	} else {
		id = h.last + 2
	}
	h.last = id
	h.open[id] = answering{}
	if len(h.data) == 0 {
		return appendFrame(out, frameHeaders, flagEndHeaders|flagEndStream, id, h.heads.next()), id
	}
	out = appendFrame(out, frameHeaders, flagEndHeaders, id, h.heads.next())
	h.window -= len(h.data)
	return appendFrame(out, frameData, flagEndStream, id, h.data), id
}

func (h *http2) read(in []byte, out *[]byte, done func(uint32)) (used int, err error) {
	for {
		f, n := nextFrame(in[used:])
		if n == 0 {
			return used, nil
		}
		used += n
		own, err := h.control(f, out)
		if err == nil && !own {
			err = h.stream(f, out, done)
		}
		if err != nil {
			return used, err
		}
	}
}

// stream reads a frame of an answer.
func (h *http2) stream(f frame, out *[]byte, done func(uint32)) error {
	a, ok := h.open[f.stream]
	if !ok {
		return fmt.Errorf("a frame of stream %d, which is not open", f.stream)
	}
	content, err := f.content()
	if err != nil {
		return err
	}
	switch f.kind {
	case frameReset:
		return fmt.Errorf("stream %d is reset: %x", f.stream, f.payload)
	case frameData:
		if a.got+len(content) > len(h.answer) || !bytes.Equal(content, h.answer[a.got:a.got+len(content)]) {
			return fmt.Errorf("an answer with %.200q, want the origin's", content)
		}
		a.got += len(content)
		h.giveBack(len(f.payload), out)
	case frameHeaders:
		h.status, h.grpcOK = "", false
		if f.flags&flagEndHeaders == 0 {
			return fmt.Errorf("a head in several frames")
		}
		if _, err := h.decoder.Write(content); err != nil {
			return err
		}
		if err := h.decoder.Close(); err != nil {
			return err
		}
		if !a.head && h.status != "200" {
			return fmt.Errorf("answer %q, want 200", h.status)
		}
		a.head = true
	}
	if f.flags&flagEndStream == 0 {
		h.open[f.stream] = a
		return nil
	}
	if a.got != len(h.answer) || h.grpc && (f.kind != frameHeaders || !h.grpcOK) {
		return fmt.Errorf("stream %d ends after %d bytes of %d, or without its gRPC status", f.stream, a.got, len(h.answer))
	}
	delete(h.open, f.stream)
	done(f.stream)
	return nil
}
