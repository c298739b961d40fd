package upstream

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// lacking is a service of hosts a and b whose dials fail with errno until left is 0.
func lacking(errno syscall.Errno, left *int, short func(), log *slog.Logger) (*Service, *[]string) {
	var dialled []string
	s := newService(newShared(Config{Log: log, Short: short, Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
		dialled = append(dialled, addr)
		if *left > 0 {
			*left--
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)}
		}
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		return near, nil
	}}), orders, "test")
	s.update(&mesh.Route{Destination: orders, Local: []mesh.Endpoint{{Instance: "a", Address: "a:1", Ready: true, Weight: 1}, {Instance: "b", Address: "b:1", Ready: true, Weight: 1}}})
	return s, &dialled
}

func ejectedHosts(s *Service) (n int) {
	for _, h := range s.Status().Hosts {
		if h.EjectedFor > 0 {
			n++
		}
	}
	return n
}

func TestWithoutADescriptorIdleConnectionsGoAndTheDialIsTriedOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, short := 1, 0
		s, dialled := lacking(syscall.EMFILE, &left, func() { short++ }, nil)
		var a Attempts
		a.Begin(s, DefaultRetries(), time.Now())
		l, err := a.Next(t.Context(), nil)
		if err != nil || short != 1 || len(*dialled) != 2 {
			t.Fatalf("%v after %d dials; Short was called %d times", err, len(*dialled), short)
		}
		l.Done(Answered, 0)
		_ = l.Close()

		left = 1000
		*dialled = nil
		began := time.Now()
		a.Begin(s, DefaultRetries(), began)
		_, err = a.Next(t.Context(), nil)
		contains(t, err, "too many open files", "raise this process's limit")
		if ce := connectError(t, err); ce.Advice() == "" || len(*dialled) != 2 || time.Since(began) > shedPause {
			t.Errorf("%d dials in %v; want two, and an error at once", len(*dialled), time.Since(began))
		}
		if n := ejectedHosts(s); n != 0 {
			t.Errorf("%d hosts are ejected for it", n)
		}
	})
}

func TestWhatThisMachineLacksBlamesNoHostAndIsSaidOnceAMinute(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.EPERM, syscall.EMFILE} {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				left := 1 << 20
				s, _ := lacking(errno, &left, func() {}, slog.New(slog.NewTextHandler(&log, nil)))
				for range 100 {
					var a Attempts
					a.Begin(s, RetryPolicy{Hosts: 2, Sends: 1}, time.Now())
					_, err := a.Next(t.Context(), nil)
					if err == nil || strings.Contains(err.Error(), "is it running") || connectError(t, err).Advice() == "" {
						t.Fatalf("%v says nothing of what to do here", err)
					}
				}
				if n := ejectedHosts(s); n != 0 {
					t.Errorf("%d hosts are ejected", n)
				}
				if n := strings.Count(log.String(), "\n"); n > 2 || n < 1 {
					t.Errorf("%d lines: %s", n, log.String())
				}
			})
		})
	}
}
