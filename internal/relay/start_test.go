package relay_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

func TestAPathOfWhichOneDirectionHasEndedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		defer server.Close() // the server never says anything
		ctx, cancel := context.WithCancelCause(t.Context())
		over := make(chan error, 1)
		relay.Start(ctx, pipe{a}, halfClosing{pipe{b}}, 0, func(_ relay.Stats, err error) { over <- err })
		_ = client.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		why := errors.New("the proxy ends")
		cancel(why)
		if err := <-over; !errors.Is(err, why) {
			t.Errorf("the path ended with %v, want %v", err, why)
		}
	})
}

// halfClosing is an end whose peer goes on when nothing more is written to it.
type halfClosing struct{ pipe }

func (halfClosing) CloseWrite() error { return nil }
