package relay_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// measured is one end of a net.Pipe that says what it is read with.
type measured struct {
	pipe
	reads chan int
}

func (m measured) Read(b []byte) (int, error) {
	m.reads <- len(b)
	return m.pipe.Read(b)
}

func TestADirectionWithoutBytesHoldsNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		reads := make(chan int, 16)
		done := make(chan error, 1)
		go func() {
			_, err := relay.Copy(t.Context(), measured{pipe{a}, reads}, pipe{b}, 0)
			done <- err
		}()
		say := func(n int) {
			t.Helper()
			go func() { _, _ = client.Write(make([]byte, n)) }()
			if _, err := io.ReadFull(server, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		readWith := func(when string, want ...int) {
			t.Helper()
			for _, w := range want {
				select {
				case got := <-reads:
					if got != w {
						t.Fatalf("%s it reads with %d bytes, want %d", when, got, w)
					}
				default:
					t.Fatalf("%s it does not read, want a read with %d bytes", when, w)
				}
			}
			select {
			case got := <-reads:
				t.Fatalf("%s it reads once more, with %d bytes", when, got)
			default:
			}
		}
		synctest.Wait()
		readWith("at first", relay.MediumSize)
		say(10)
		readWith("while it is busy", relay.MediumSize)
		time.Sleep(2 * relay.ParkAfter)
		synctest.Wait()
		readWith("after a while", relay.SmallSize)
		say(relay.SmallSize - 1) // a keep-alive message
		readWith("after a little", relay.SmallSize)
		say(3 * relay.SmallSize)
		readWith("when there is more than a little", relay.MediumSize, relay.MediumSize)
		say(3 * relay.MediumSize)
		readWith("when there is much", relay.LargeSize, relay.LargeSize)
		time.Sleep(time.Hour)
		synctest.Wait()
		readWith("an hour later", relay.SmallSize)
		_ = client.Close()
		_ = server.Close()
		<-done
	})
}

func TestBytesAfterAPauseArriveWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		go func() { _, _ = relay.Copy(t.Context(), pipe{a}, pipe{b}, 0) }()
		var sent bytes.Buffer
		got := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(server)
			got <- all
		}()
		for i := range 40 {
			message := bytes.Repeat([]byte{byte(i)}, 1<<(i%20))
			sent.Write(message)
			if _, err := client.Write(message); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
		}
		_ = client.Close()
		if all := <-got; !bytes.Equal(all, sent.Bytes()) {
			t.Fatalf("%d bytes arrive, %d were sent, or others", len(all), sent.Len())
		}
	})
}

// telling is one end of a net.Pipe that says when it can be read.
type telling struct {
	pipe
	asked chan func()
}

func (n telling) OnReadable(f func()) { n.asked <- f }

func TestADirectionFromWhoSaysWhenItCanBeReadNeedsNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		asked := make(chan func(), 1)
		done := make(chan error, 1)
		go func() {
			_, err := relay.Copy(t.Context(), telling{pipe{a}, asked}, pipe{b}, 0)
			done <- err
		}()
		say := func(what string) {
			t.Helper()
			go func() { _, _ = io.WriteString(client, what) }()
			got := make([]byte, len(what))
			if _, err := io.ReadFull(server, got); err != nil || string(got) != what {
				t.Fatalf("%q, %v; want %q", got, err, what)
			}
		}
		say("busy")
		for range 3 {
			tell := <-asked // after a while
			time.Sleep(time.Minute)
			tell()
			say("again")
		}
		tell := <-asked
		_ = client.Close()
		tell() // of the end
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("%v, want the end", err)
		}
		<-done // a pipe has no halves
	})
}
