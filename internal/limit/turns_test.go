package limit

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// dialled is an end of a pipe with an address.
type dialled struct {
	net.Conn
	from string
}

func (d dialled) RemoteAddr() net.Addr { return at(d.from) }

func one() *Turns {
	t := NewTurns()
	t.free = 1
	return t
}

func TestHandshakesHaveTheirTurnsOldestFirstAndSourceBySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := one()
		var mu sync.Mutex
		var order []string
		begin := func(name, from string) {
			client, server := net.Pipe()
			go func() { _, _ = client.Write([]byte("hello")) }()
			go func() {
				_ = turns.Handshake(dialled{server, from}, time.Hour, func(c net.Conn) error {
					_, err := io.ReadFull(c, make([]byte, 5))
					mu.Lock()
					order = append(order, name)
					mu.Unlock()
					time.Sleep(time.Second) // computes
					return err
				})
				_ = client.Close()
			}()
			synctest.Wait()
		}
		begin("first", "10.0.0.1")
		begin("flood 1", "10.0.0.2")
		begin("flood 2", "10.0.0.2")
		begin("flood 3", "10.0.0.2")
		begin("late", "10.0.0.3")
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if want := []string{"first", "flood 1", "late", "flood 2", "flood 3"}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v, want %v", order, want)
		}
		turns.mu.Lock()
		defer turns.mu.Unlock()
		if turns.waiting != 0 || turns.free != 1 || len(turns.sources) != 0 || turns.ring.Len() != 0 {
			t.Error("turns were lost")
		}
	})
}

func TestWhoSaysHalfAHandshakeHoldsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := one()
		var mu sync.Mutex
		var ended []error
		var last time.Time
		begin := func(says []byte, want int) (client net.Conn) {
			client, server := net.Pipe()
			go func() {
				err := turns.Handshake(dialled{server, "10.0.0.1"}, 10*time.Second, func(c net.Conn) error {
					_, err := io.ReadFull(c, make([]byte, want))
					return err
				})
				mu.Lock()
				defer mu.Unlock()
				ended, last = append(ended, err), time.Now()
			}()
			if says != nil {
				_, _ = client.Write(says)
			}
			synctest.Wait()
			return client
		}
		began := time.Now()
		slow := begin([]byte("h"), 100)
		begin(nil, 5)
		begin([]byte("hello"), 5)
		mu.Lock()
		if len(ended) != 1 || ended[0] != nil {
			t.Errorf("%v ended, want one that is served", ended)
		}
		mu.Unlock()
		for range 8 { // bytes that come slowly do not add to the patience
			time.Sleep(time.Second)
			_, _ = slow.Write([]byte("e"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(ended) != 3 || !errors.Is(ended[1], os.ErrDeadlineExceeded) || !errors.Is(ended[2], os.ErrDeadlineExceeded) || last.Sub(began) > 11*time.Second {
			t.Errorf("%v after %v", ended, last.Sub(began))
		}
	})
}

func TestAWaitForATurnDoesNotCountAsThePeersSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := one()
		turns.take(Source{}, false) // somebody computes for long
		client, server := net.Pipe()
		var err error
		go func() { _, _ = client.Write([]byte("hello")); _, _ = client.Write([]byte("again")) }()
		var done sync.WaitGroup
		done.Go(func() {
			err = turns.Handshake(dialled{server, "10.0.0.1"}, time.Second, func(c net.Conn) error {
				b := make([]byte, 5)
				_, first := io.ReadFull(c, b)
				_, second := io.ReadFull(c, b)
				return errors.Join(first, second)
			})
		})
		time.Sleep(time.Hour)
		turns.give()
		done.Wait()
		if err != nil {
			t.Error(err)
		}
	})
}

func TestAPeerThatWentAwayBeforeItsTurnIsNotServed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	turns := one()
	turns.take(Source{}, false)
	_, _ = client.Write([]byte("hello"))
	done := make(chan error, 1)
	go func() {
		done <- turns.Handshake(server, time.Minute, func(c net.Conn) error {
			_, err := c.Read(make([]byte, 5))
			return err
		})
	}()
	for turns.waitingNow() == 0 {
		time.Sleep(time.Millisecond)
	}
	_ = client.Close()
	for !gaveUp(server) {
		time.Sleep(time.Millisecond)
	}
	turns.give()
	if err := <-done; !errors.Is(err, errGaveUp) {
		t.Errorf("%v, want %v", err, errGaveUp)
	}
}

func TestDescriptorsLeaveAReserve(t *testing.T) {
	n := Descriptors()
	if n < fewest-fewest/reserved || n > most {
		t.Errorf("%d descriptors", n)
	}
	if Part(4, 10) != 10 || Part(n, n) != 1 {
		t.Error("other parts")
	}
}
