package gatewaylink

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// gateway is the gateway's end of a stream: it says so much and then ends it.
type gateway struct {
	grpc.BidiStreamingClient[int, int]
	says []int
	end  error
}

func (g *gateway) Recv() (*int, error) {
	if len(g.says) == 0 {
		return nil, g.end
	}
	n := g.says[0]
	g.says = g.says[1:]
	return &n, nil
}

func (g *gateway) Send(*int) error { return io.EOF } // as gRPC does on a stream that is over

// converse has talk speak to g.
func converse(t *testing.T, g *gateway, talk func(*Stream[int, int]) error) error {
	t.Helper()
	links, err := New(identitytest.New(t, "mesh.example").Workload("east", "shop", "web"), []string{"127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return Converse(t.Context(), links[0], func(context.Context, grpc.ClientConnInterface) (grpc.BidiStreamingClient[int, int], error) {
		return g, nil
	}, talk)
}

func TestAStreamThatEndedSaysWhyAlsoWhenNotEverythingWasReceived(t *testing.T) {
	broken := errors.New("broken")
	for end, want := range map[error]error{io.EOF: ErrEnded, broken: broken} {
		synctest.Test(t, func(t *testing.T) {
			err := converse(t, &gateway{says: []int{1, 2, 3}, end: end}, func(s *Stream[int, int]) error {
				<-s.Received()
				return s.Send(new(int))
			})
			if !errors.Is(err, want) {
				t.Errorf("the stream ended with %v, want %v", err, want)
			}
		})
	}
}

func TestAGatewayThatDoesNotAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links, err := New(identitytest.New(t, "mesh.example").Workload("east", "shop", "web"), []string{"127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		err = Converse(t.Context(), links[0], func(ctx context.Context, _ grpc.ClientConnInterface) (grpc.BidiStreamingClient[int, int], error) {
			<-ctx.Done() // dialling
			return nil, ctx.Err()
		}, nil)
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v, want that it did not answer", err)
		}
	})
}
