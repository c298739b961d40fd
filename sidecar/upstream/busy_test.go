package upstream

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// slowConn takes no more than a little per millisecond.
type slowConn struct {
	net.Conn
	slow *atomic.Bool
}

func (c *slowConn) Write(b []byte) (int, error) {
	if c.slow.Load() {
		time.Sleep(time.Duration(len(b)/1024) * time.Millisecond)
	}
	return c.Conn.Write(b)
}

func TestAnotherConnectionIsOpenedWhenOneHasBeenTheLimitForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		var served sync.WaitGroup
		var dialled atomic.Int32
		s := Static(Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			dialled.Add(1)
			served.Go(func() {
				_ = streams.Server(far, streams.Config{}).Serve(func(s *streams.Stream) {
					_, _, _ = s.ReadHead(nil)
					b := make([]byte, 4<<10)
					for {
						if _, err := s.Read(b); err != nil {
							break
						}
					}
					_ = s.WriteResponse(200, nil, true)
				})
			})
			return &slowConn{near, &slow}, nil
		}}, "program:1", mesh.HTTP2)
		post := &http2.RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}
		upload := func() {
			l := mustLease(t, begin(s))
			if err := l.Stream().WriteRequest(post, nil, false); err != nil {
				t.Error(err)
			}
			if _, err := l.Stream().WriteLast(make([]byte, 512<<10)); err != nil {
				t.Error(err)
			}
			if _, _, err := l.Stream().ReadHead(nil); err != nil {
				t.Error(err)
			}
			l.Done(Answered, time.Millisecond)
			l.Return()
		}
		upload()
		slow.Store(true)
		var uploads sync.WaitGroup
		for range 4 {
			uploads.Go(upload)
		}
		synctest.Wait()
		for range 10 {
			time.Sleep(limitedLook)
			if err := roundTrip(mustLease(t, begin(s))); err != nil {
				t.Error(err)
			}
		}
		uploads.Wait()
		if n := dialled.Load(); n < 2 || n > maxBusy {
			t.Errorf("%d connections were opened for uploads that one delays", n)
		}
		s.Close()
		served.Wait()
	})
}
