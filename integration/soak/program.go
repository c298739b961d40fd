package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// content is what a GET of id answers: size bytes that follow from it, so that an
// answer to another question is seen.
func content(id string, size int) []byte {
	b := make([]byte, 0, size+sha256.Size)
	for seed := sha256.Sum256([]byte(id)); len(b) < size; seed = sha256.Sum256(seed[:]) {
		b = append(b, seed[:]...)
	}
	return b[:size]
}

// serveHTTP is the program of an HTTP service. It records every request before it
// does anything else, and ends as a good server does on SIGTERM.
func serveHTTP(instance, addr, callsAt, socket string) error {
	records, err := newRecorder(socket)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	handle := func(pattern, kind string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := records.record(record{Did: didExecute, Who: instance, Kind: kind, ID: r.PathValue("id"), Begin: time.Now()}); err != nil {
				panic(http.ErrAbortHandler) // the run is over
			}
			w.Header().Set("Instance", instance)
			h(w, r)
		})
	}
	handle("GET /get/{id}", get, func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		_, _ = w.Write(content(r.PathValue("id"), min(size, maxBody)))
	})
	handle("GET /shared/{id}", shared, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content(r.PathValue("id"), maxBody))
	})
	handle("GET /slow/{id}", slowly, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content(r.PathValue("id"), slowSize))
	})
	handle("POST /post/{id}", post, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slow)
		digest(w, r)
	})
	handle("PUT /put/{id}", put, digest)
	handle("POST /upload/{id}", upload, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, r.PathValue("id"))
	})
	handle("GET /stream/{id}", stream, func(w http.ResponseWriter, r *http.Request) {
		for i := range streamLines {
			if _, err := fmt.Fprintf(w, "%s %d\n", r.PathValue("id"), i); err != nil {
				return
			}
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			time.Sleep(streamPause)
		}
		fmt.Fprintln(w, "end")
	})
	signal.Ignore(syscall.SIGHUP) // the sidecar passes it on
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: patience}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	calls := make(chan error, 1)
	go func() { calls <- serveCalls(ctx, instance, callsAt, records) }()
	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.Background(), programDrain)
		defer cancel()
		ended <- server.Shutdown(bounded)
	})
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return errors.Join(<-ended, <-calls)
}

// digest answers with the request's ID and what its body's hash is.
func digest(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	if _, err := io.Copy(h, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s", r.PathValue("id"), hex.EncodeToString(h.Sum(nil)))
}

// A frame on an echo connection is its length (4 bytes), the CRC-32 of its content
// (4 bytes), and the content. The first one's content is the session's ID.

func writeFrame(w io.Writer, b []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(b))
	_, err := w.Write(append(head, b...))
	return err
}

var errFrame = errors.New("a frame is not what was sent")

// readFrame returns io.EOF when the peer has ended between two frames.
func readFrame(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(b) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: its checksum is another", errFrame)
	}
	return b, nil
}

// serveEcho is the program of a TCP service. On SIGTERM it lets its connections end.
func serveEcho(instance, addr, socket string) error {
	records, err := newRecorder(socket)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP) // the sidecar passes it on
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var wg sync.WaitGroup
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		wg.Go(func() {
			defer c.Close()
			for first := true; ; first = false {
				b, err := readFrame(c)
				if err != nil {
					return // a health check, the end, or the caller sees it
				}
				if first && records.record(record{Did: didExecute, Who: instance, Kind: tcp, ID: string(b), Begin: time.Now()}) != nil {
					return
				}
				if writeFrame(c, b) != nil {
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	select {
	case <-done:
	case <-time.After(programDrain):
		fmt.Fprintln(os.Stderr, "connections do not end")
	}
	return nil
}
