package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// What a record says has happened.
const (
	didExecute = "executed" // a program has begun to do what a request asks for
	didEnd     = "ended"    // a caller knows how its request ended
)

// How a request ended for its caller.
const (
	ok     = "ok"
	failed = "error"  // the caller was told: an error status, a refusal, or a reset before the answer
	cut    = "cut"    // the caller was told in the middle of the answer
	eof    = "eof"    // the peer of a TCP connection ended it before everything was echoed
	hang   = "hang"   // nothing came for [patience]
	wrong  = "wrong"  // what came is not what was asked for, and looks complete
	absent = "absent" // the mesh says that a service which exists does not
)

// The kinds of requests.
const (
	get    = "GET"
	post   = "POST"
	put    = "PUT"
	upload = "upload" // a POST that is answered 413 before it is read
	stream = "stream" // a GET whose answer takes streamLines times streamPause
	tcp    = "TCP"
	lookup = "DNS"
	shared = "HTTP/2" // a GET; all of a caller go over one connection
	slowly = "slow"   // a GET by HTTP/2 whose answer of slowSize is not read for slowPause
	giveUp = "cancel" // a stream by HTTP/2 that its caller resets
	call   = "gRPC"   // unary
	watch  = "gRPC stream"
)

// kinds are all of them, in the order of the table.
var kinds = []string{get, shared, post, put, upload, stream, slowly, giveUp, call, watch, tcp, lookup}

// idempotent reports whether the mesh may repeat a request of a kind, so that a
// caller need not see that a process of the mesh failed.
func idempotent(kind string) bool {
	switch kind {
	case get, shared, put, stream, slowly, giveUp, lookup:
		return true
	}
	return false
}

// record is what a program or a caller tells the judge, one JSON object a line.
type record struct {
	Did     string    `json:"did"`
	Who     string    `json:"who"` // the instance or the caller's host
	Kind    string    `json:"kind"`
	ID      string    `json:"id"` // of the request
	Begin   time.Time `json:"begin"`
	End     time.Time `json:"end"`
	Outcome string    `json:"outcome,omitempty"`
	Why     string    `json:"why,omitempty"`
}

func (r record) String() string {
	s := fmt.Sprintf("%s %s %s of %s", r.Did, r.Kind, r.ID, r.Who)
	if r.Did == didExecute {
		return fmt.Sprintf("%s %s %s by %s", r.Did, r.Kind, r.ID, r.Who)
	}
	return fmt.Sprintf("%s: %s after %v: %s", s, r.Outcome, r.End.Sub(r.Begin).Round(time.Millisecond), r.Why)
}

// recorder writes records to the judge. What it has written is not lost when its
// process is killed. Safe for concurrent use.
type recorder struct {
	mu   sync.Mutex
	conn net.Conn
	enc  *json.Encoder
}

func newRecorder(socket string) (*recorder, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return nil, err
	}
	return &recorder{conn: c, enc: json.NewEncoder(c)}, nil
}

func (r *recorder) record(e record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enc.Encode(e)
}

// listenRecords accepts recorders at socket and hands over what they write, in the
// order in which it is read. Close of the listener ends it, wait waits for that.
func listenRecords(socket string, took func(record)) (l net.Listener, wait func(), err error) {
	if l, err = (&net.ListenConfig{}).Listen(context.Background(), "unix", socket); err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for d := json.NewDecoder(c); ; {
					var e record
					if err := d.Decode(&e); err != nil {
						if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) { // a killed one's last line
							took(record{Did: didEnd, Outcome: wrong, Why: "a record that cannot be read: " + err.Error()})
						}
						return
					}
					took(e)
				}
			})
		}
	})
	return l, wg.Wait, nil
}
