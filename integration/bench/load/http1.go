package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// http1 is a connection that carries one request at a time.
type http1 struct {
	ask    []byte
	answer []byte
	once   bool // one request, and the connection is done
	begun  bool
}

func newHTTP1(o Options) *http1 {
	h := &http1{answer: []byte(o.Answer), once: o.Reconnect}
	h.ask = fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\n", o.Authority)
	if h.once {
		h.ask = append(h.ask, "Connection: close\r\n"...)
	}
	h.ask = append(h.ask, "\r\n"...)
	return h
}

func (h *http1) hello(out []byte) []byte { return out }
func (h *http1) ready() bool             { return !h.spent() }
func (h *http1) spent() bool             { return h.once && h.begun }

func (h *http1) request(out []byte) ([]byte, uint32) {
	h.begun = true
	return append(out, h.ask...), 0
}

var (
	good          = []byte("HTTP/1.1 200 ")
	endOfHead     = []byte("\r\n\r\n")
	contentLength = []byte("content-length")
)

func (h *http1) read(in []byte, _ *[]byte, done func(uint32)) (int, error) {
	end := bytes.Index(in, endOfHead)
	if end < 0 {
		return 0, nil
	}
	if !bytes.HasPrefix(in, good) {
		return 0, fmt.Errorf("answer %.200q, want 200", in)
	}
	length, err := lengthIn(in[:end+2])
	if err != nil {
		return 0, err
	}
	whole := end + len(endOfHead) + length
	if len(in) < whole {
		return 0, nil
	}
	if body := in[end+len(endOfHead) : whole]; !bytes.Equal(body, h.answer) {
		return 0, fmt.Errorf("answer of %d bytes, %.200q, want the origin's %d", length, body, len(h.answer))
	}
	if len(in) > whole {
		return 0, errors.New("it answers more than was asked")
	}
	done(0)
	return whole, nil
}

// lengthIn returns the Content-Length of a head.
func lengthIn(head []byte) (int, error) {
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == len(contentLength) && bytes.EqualFold(name, contentLength) {
			return strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return 0, fmt.Errorf("no content-length in %q", head)
}
