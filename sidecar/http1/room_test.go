package http1

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// fill returns a head that begins with start and whose n fields and size bytes are
// exact, the blank line included.
func fill(start string, n, size int) string {
	var b strings.Builder
	b.WriteString(start)
	for i := strings.Count(start, "\r\n") - 1; i < n-1; i++ {
		fmt.Fprintf(&b, "F%d:\r\n", i)
	}
	b.WriteString("Last:")
	b.WriteString(strings.Repeat("x", size-b.Len()-4))
	return b.String() + "\r\n\r\n"
}

// The first hop is given the largest head that it takes and adds the most that it
// may: the second takes it.
func TestWhatTheFirstHopTakesTheSecondTakesToo(t *testing.T) {
	most := RequestRewrite{
		Host: strings.Repeat("h", maxHost), RequestID: []byte(strings.Repeat("i", maxRequestID)), Proto: strings.Repeat("p", maxProto),
		Outside: true, ForwardedFor: strings.Repeat("f", maxForwardedFor),
	}
	const fields, size = MaxFields - requestRoomFields, MaxHead - requestRoom
	for _, start := range []string{
		"GET / HTTP/1.1\r\nHost:\r\n",
		"GET / HTTP/1.0\r\n",
		"GET http://a HTTP/1.0\r\n",
		"GET http://a?b HTTP/1.1\r\nHost:\r\n",
		"POST / HTTP/1.1\r\nHost:a\r\nTransfer-Encoding:chunked\r\nTE:trailers\r\nConnection:te,upgrade\r\nUpgrade:x\r\n",
	} {
		in := fill(start, fields, size)
		first := Request{}
		first.LeaveRoom = true
		if n, err := first.Parse([]byte(in)); n != size || err != nil {
			t.Fatalf("%q: the first hop: %d, %v; want %d", start, n, err, size)
		}
		out := AppendRequest(nil, &first, &most)
		var second Request
		if n, err := second.Parse(out); n != len(out) || err != nil {
			t.Errorf("%q: %d fields and %d bytes became %d and %d: %v", start, first.n, size, second.n, len(out), err)
		}
		for name, c := range map[string]struct {
			head string
			want error
		}{"a field": {fill(start, fields+1, size), ErrTooManyFields}, "a byte": {fill(start, fields, size+1), ErrHeadTooLarge}} {
			first.Reset()
			if n, err := first.Parse([]byte(c.head)); n != 0 || !errors.Is(err, c.want) {
				t.Errorf("%q with %s more: %d, %v; want %v", start, name, n, err, c.want)
			}
		}
	}
}

func TestWhatTheFirstHopTakesOfAnAnswerTheSecondTakesToo(t *testing.T) {
	most := ResponseRewrite{Close: true, Via: strings.Repeat("v", maxVia), Date: strings.Repeat("d", maxDate)}
	old := most
	old.Close, old.HTTP10 = false, true // Connection: keep-alive is longer
	const fields, size = MaxFields - responseRoomFields, MaxHead - responseRoom
	for _, start := range []string{
		"HTTP/1.1 200\r\nProxy-Status:a\r\n",
		"HTTP/1.1 503\r\nProxy-Status:a\r\nTransfer-Encoding:chunked\r\n",
		"HTTP/1.1 101\r\nProxy-Status:a\r\nConnection:upgrade\r\nUpgrade:x\r\n",
	} {
		for _, rewrite := range []ResponseRewrite{most, old} {
			in := fill(start, fields, size)
			first := Response{}
			first.LeaveRoom = true
			if n, err := first.Parse([]byte(in)); n != size || err != nil {
				t.Fatalf("%q: the first hop: %d, %v; want %d", start, n, err, size)
			}
			out := AppendResponse(nil, &first, &rewrite)
			var second Response
			if n, err := second.Parse(out); n != len(out) || err != nil {
				t.Errorf("%q: %d fields and %d bytes became %d and %d: %v", start, first.n, size, second.n, len(out), err)
			}
			first.Reset()
			if n, err := first.Parse([]byte(fill(start, fields+1, size))); n != 0 || !errors.Is(err, ErrTooManyFields) {
				t.Errorf("%q with a field more: %d, %v", start, n, err)
			}
			first.Reset()
			if n, err := first.Parse([]byte(fill(start, fields, size+1))); n != 0 || !errors.Is(err, ErrHeadTooLarge) {
				t.Errorf("%q with a byte more: %d, %v", start, n, err)
			}
		}
	}
}
