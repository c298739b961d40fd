package exchange

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// The payload of a stream has no framing, and a length that is not said needs none. Inside
// an exchange every body has the framing of HTTP/1.1: what is kept of it for a retry, where
// it ends, what is wrong with it, is the same whatever is spoken at either end.

// minRead is the least room in bytes that is left to a read: the framing of a chunk fits with
// some of its data.
const minRead = 64

// bodyReader reads a body of a stream in the framing of HTTP/1.1. It belongs to the
// goroutine that reads the stream.
type bodyReader struct {
	stream  *streams.Stream
	chunked bool   // else its length was said, and there is no framing
	ended   bool   // the stream has
	tail    []byte // of the last chunk and the trailers, what was not taken yet
	memory  []byte // of tail
}

// begin makes r the reader of a stream's body.
func (r *bodyReader) begin(s *streams.Stream, chunked bool) {
	*r = bodyReader{stream: s, chunked: chunked, memory: r.memory}
}

// sizeRoom is what is left in front of payload for a chunk's size line.
const sizeRoom = len("ffff\r\n")

// read reads into b, which has room for minRead.
func (r *bodyReader) read(b []byte) (int, error) {
	switch {
	case len(r.tail) > 0:
		n := copy(b, r.tail)
		r.tail = r.tail[n:]
		return n, nil
	case r.ended:
		return 0, io.EOF
	case !r.chunked:
		return r.stream.Read(b)
	case len(b) < minRead:
		return 0, io.ErrShortBuffer
	}
	n, err := r.stream.Read(b[sizeRoom:min(len(b)-len("\r\n"), sizeRoom+0xffff)])
	if n > 0 {
		n = frame(b, n)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	r.ended = true
	r.memory = append(r.memory[:0], "0\r\n"...)
	r.memory = append(r.stream.Trailers(r.memory), '\r', '\n')
	k := copy(b[n:], r.memory)
	r.tail = r.memory[k:]
	return n + k, nil
}

// frame makes a chunk of the n bytes behind sizeRoom, and returns its length.
func frame(b []byte, n int) int {
	var digits [4]byte
	size := strconv.AppendUint(digits[:0], uint64(n), 16)
	from := len(size) + len("\r\n")
	if from < sizeRoom {
		copy(b[from:], b[sizeRoom:sizeRoom+n])
	}
	copy(b, size)
	b[from-2], b[from-1] = '\r', '\n'
	b[from+n], b[from+n+1] = '\r', '\n'
	return from + n + 2
}

// bodyWriter writes a body in the framing of HTTP/1.1 to a stream. It belongs to the
// goroutine that writes the stream.
type bodyWriter struct {
	stream *streams.Stream
	body   http1.Body
	fields fieldList
}

// begin makes w the writer of a stream.
func (w *bodyWriter) begin(s *streams.Stream) { w.stream, w.body = s, http1.Body{} }

// write writes b, in which no line is cut. All of it leaves at once, with what was
// written before to the stream while it was corked.
func (w *bodyWriter) write(b []byte) (int, error) {
	w.stream.Cork()
	err := w.unframe(b)
	w.stream.Uncork()
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// lastChunk follows the data of a body that has no more of it, nor trailers.
var lastChunk = []byte("\r\n0\r\n\r\n")

func (w *bodyWriter) unframe(b []byte) error {
	for len(b) > 0 {
		trailers := w.body.AtTrailers()
		n, payload, err := w.body.Next(b)
		switch {
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite // a line was cut, or something follows the body: a bug
		case len(payload) > 0 && (w.body.Done() || bytes.Equal(b[n:], lastChunk)):
			w.body = http1.Body{}
			_, err := w.stream.WriteLast(payload)
			return err
		case len(payload) > 0:
			if _, err := w.stream.Write(payload); err != nil {
				return err
			}
		case trailers:
			return w.end(b[:n])
		}
		b = b[n:]
	}
	return nil
}

// end ends the stream's direction with the fields of a trailer section.
func (w *bodyWriter) end(section []byte) error {
	w.fields.reset()
	http1.EachTrailer(section, func(f http1.Field) { w.fields.add(f) })
	if len(w.fields.list) == 0 {
		return w.stream.CloseWrite()
	}
	return w.stream.WriteTrailers(w.fields.list)
}

// fieldList holds the fields of one head, in memory that is used again.
type fieldList struct {
	list    []streams.Field
	scratch []byte
}

func (l *fieldList) reset() { l.list, l.scratch = l.list[:0], l.scratch[:0] }

func (l *fieldList) add(f http1.Field) {
	var one streams.Field
	one.Name, one.Value, l.scratch = f.In(l.scratch)
	l.list = append(l.list, one)
}
