package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
)

// echo answers each message with itself until the connection ends.
func echo(c net.Conn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
}

func TestWhatIsNoTCPConnectionHasNoSocket(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if Of(near) != nil {
		t.Error("a pipe has one")
	}
}

func TestAQuestionIsAnswered(t *testing.T) {
	near, far := sockettest.Pair(t)
	go echo(far)
	s, answer := Of(near), make([]byte, 64)
	for range 100 {
		sent, n, err := s.Ask([]byte("how are you"), answer)
		if err != nil || sent != 11 || string(answer[:n]) != "how are you" {
			t.Fatalf("sent %d, read %q, %v", sent, answer[:n], err)
		}
	}
}

func TestReadAndWriteAreThoseOfTheConnection(t *testing.T) {
	near, far := sockettest.Pair(t)
	s, message := Of(near), bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB: it has to wait for room
	var wrote sync.WaitGroup
	defer wrote.Wait()
	wrote.Go(func() {
		if n, err := s.Write(message); n != len(message) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	got := make([]byte, len(message))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, message) {
		t.Fatalf("something else arrived, %v", err)
	}
	wrote.Go(func() { _, _ = far.Write(message); _ = far.CloseWrite() })
	if all, err := io.ReadAll(s); err != nil || !bytes.Equal(all, message) {
		t.Errorf("read %d bytes, %v", len(all), err)
	}
}

func TestOfAQuestionThatDoesNotFitTheRestIsLeft(t *testing.T) {
	near, far := sockettest.Pair(t)
	s, question := Of(near), make([]byte, 64<<20)
	sent, n, err := s.Ask(question, make([]byte, 1))
	if err != nil || n != 0 || sent <= 0 || sent == len(question) {
		t.Fatalf("sent %d, read %d, %v", sent, n, err)
	}
	var read sync.WaitGroup
	read.Go(func() {
		if n, err := io.CopyN(io.Discard, far, int64(len(question))); err != nil {
			t.Errorf("%d bytes came, %v", n, err)
		}
		_, _ = far.Write([]byte("x"))
	})
	if n, err := s.Write(question[sent:]); err != nil || sent+n != len(question) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := s.Read(question); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	read.Wait()
}

func TestDeadlinesHold(t *testing.T) {
	near, _ := sockettest.Pair(t)
	s, b, much := Of(near), make([]byte, 1), make([]byte, 64<<20)
	near.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, n, err := s.Ask([]byte("x"), b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("asked: read %d, %v", n, err)
	}
	if n, err := s.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v", n, err)
	}
	if sent, _, err := s.Ask([]byte("x"), b); sent != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("asked too late: sent %d, %v", sent, err)
	}
	near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := s.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote: %v", err)
	}
}

func TestAnEndEndsTheWait(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(near, far *net.TCPConn)
		want error
	}{
		"closed here":       {func(near, _ *net.TCPConn) { near.Close() }, net.ErrClosed},
		"closed there":      {func(_, far *net.TCPConn) { far.Close() }, io.EOF},
		"half closed there": {func(_, far *net.TCPConn) { far.CloseWrite() }, io.EOF},
		"reset there":       {func(_, far *net.TCPConn) { far.SetLinger(0); far.Close() }, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := sockettest.Pair(t)
			var ended sync.WaitGroup
			defer ended.Wait()
			ended.Go(func() {
				_, _ = io.ReadFull(far, make([]byte, 1)) // the question is on its way
				end.do(near, far)
			})
			near.SetReadDeadline(time.Now().Add(10 * time.Second))
			if sent, n, err := Of(near).Ask([]byte("x"), make([]byte, 1)); sent != 1 || n != 0 || !errors.Is(err, end.want) {
				t.Errorf("sent %d, read %d, %v", sent, n, err)
			}
		})
	}
}

// Who closed before the question says so by a reset, which ends the wait.
func TestAQuestionToWhoHasGoneIsNotWaitedFor(t *testing.T) {
	near, far := sockettest.Pair(t)
	far.Close()
	near.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, n, err := Of(near).Ask([]byte("x"), make([]byte, 1))
	if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestWhatCameBeforeTheQuestionIsReadWithTheAnswer(t *testing.T) {
	near, far := sockettest.Pair(t)
	if _, err := far.Write([]byte("unasked ")); err != nil {
		t.Fatal(err)
	}
	var answered sync.WaitGroup
	defer answered.Wait()
	answered.Go(func() {
		_, _ = io.ReadFull(far, make([]byte, 1))
		_, _ = far.Write([]byte("answer"))
	})
	near.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64)
	sent, n, err := Of(near).Ask([]byte("x"), b)
	for err == nil && n < len("unasked answer") {
		var more int
		more, err = near.Read(b[n:])
		n += more
	}
	if sent != 1 || string(b[:n]) != "unasked answer" || err != nil {
		t.Errorf("sent %d, read %q, %v", sent, b[:n], err)
	}
}

func TestNothingIsAllocatedPerCall(t *testing.T) {
	near, far := sockettest.Pair(t)
	go echo(far)
	s, question, answer := Of(near), []byte("x"), make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := s.Ask(question, answer); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(question); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(answer); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
