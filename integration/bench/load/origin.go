package load

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/net/http2/hpack"
)

// Origin answers every request on the listener with the body, in HTTP/2 and nothing else;
// with gRPC, as a unary call. It returns when the listener is closed.
func Origin(l net.Listener, p Protocol, body string) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_ = newServed(p, body).serve(c) // whoever lost a request says so
		}()
	}
}

// served is the origin's side of a connection.
type served struct {
	link
	grpc    bool
	fields  []hpack.HeaderField
	heads   heads
	answer  []byte
	waiting []uint32 // streams that wait for a window
	out     []byte
}

func newServed(p Protocol, body string) *served {
	s := &served{link: newLink(), grpc: p == GRPC, answer: []byte(body)}
	s.fields = []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "text/plain"}, {Name: "server", Value: "origin"}}
	if s.grpc {
		s.fields[1].Value = "application/grpc"
		s.answer = grpcMessage(body)
	}
	return s
}

// grpcTrailers is `grpc-status: 0` as a literal, which leaves the table as it is.
var grpcTrailers = []byte("\x00\x0bgrpc-status\x010")

// serve serves one connection until it ends.
func (s *served) serve(c net.Conn) error {
	hello := make([]byte, len(preface))
	if _, err := io.ReadFull(c, hello); err != nil || string(hello) != preface {
		return fmt.Errorf("%q is no HTTP/2: %w", hello, err)
	}
	s.out = appendHello(s.out)
	in := make([]byte, 64<<10)
	held := 0
	for {
		if len(s.out) > 0 {
			if _, err := c.Write(s.out); err != nil {
				return err
			}
			s.out = s.out[:0]
		}
		n, err := c.Read(in[held:])
		if err != nil {
			return err
		}
		held += n
		used := 0
		for {
			f, n := nextFrame(in[used:held])
			if n == 0 {
				break
			}
			used += n
			if err := s.frame(f); err != nil {
				return err
			}
		}
		s.answerWaiting()
		held = copy(in, in[used:held])
		if held == len(in) {
			return errors.New("a frame that is too large")
		}
	}
}

func (s *served) frame(f frame) error {
	own, err := s.control(f, &s.out)
	if own || err != nil {
		return err
	}
	switch f.kind {
	case frameReset:
		return nil
	case frameData:
		s.giveBack(len(f.payload), &s.out)
	case frameHeaders: // nobody reads what is asked, so that nothing has to be decoded
		if f.flags&flagEndHeaders == 0 {
			return errors.New("a head in several frames")
		}
	}
	if f.flags&flagEndStream != 0 {
		s.waiting = append(s.waiting, f.stream)
	}
	return nil
}

// answerWaiting answers as many requests as the peer's window has room for.
func (s *served) answerWaiting() {
	n := 0
	for ; n < len(s.waiting) && s.settled && s.window >= len(s.answer) && s.perStream >= len(s.answer); n++ {
		if s.heads.first == nil {
			s.heads = encodeHeads(s.tableSize, s.fields)
		}
		id := s.waiting[n]
		s.window -= len(s.answer)
		s.out = appendFrame(s.out, frameHeaders, flagEndHeaders, id, s.heads.next())
		if !s.grpc {
			s.out = appendFrame(s.out, frameData, flagEndStream, id, s.answer)
			continue
		}
		s.out = appendFrame(s.out, frameData, 0, id, s.answer)
		s.out = appendFrame(s.out, frameHeaders, flagEndHeaders|flagEndStream, id, grpcTrailers)
	}
	s.waiting = append(s.waiting[:0], s.waiting[n:]...)
}
