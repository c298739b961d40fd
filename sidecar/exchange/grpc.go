package exchange

import (
	"bytes"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// The gRPC statuses that the mesh gives itself
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const (
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

// noStatus says that there is no gRPC status.
const noStatus = -1

// isGRPC reports whether a content-type says gRPC: what is grpc-web is another protocol.
func isGRPC(contentType []byte) bool {
	const name = "application/grpc"
	if len(contentType) < len(name) || !equalFold(contentType[:len(name)], name) {
		return false
	}
	return len(contentType) == len(name) || contentType[len(name)] == '+' || contentType[len(name)] == ';'
}

// equalFold reports whether b is s without regard to ASCII case. s is lower case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// grpcStatus is the status of an answer of the mesh in gRPC.
func (r *LocalReply) grpcStatus() int {
	switch {
	case r.Reason == responseTimeout:
		return grpcDeadlineExceeded
	case r.Status == 403:
		return grpcPermissionDenied
	case r.Status == 404, r.Status == 405, r.Status == 501:
		return grpcUnimplemented
	case r.Status == 431, r.Status == 413:
		return grpcResourceExhausted
	case r.Status >= 502, r.Status == 429, r.Reason == connect.DestinationUnavailable:
		return grpcUnavailable
	}
	return grpcInternal
}

// trailerStatus returns the grpc-status of the trailer section that b ends with.
func trailerStatus(b []byte) int {
	b = bytes.TrimSuffix(b, []byte("\r\n")) // the blank line
	for {
		b = bytes.TrimSuffix(b, []byte("\r\n"))
		i := bytes.LastIndexByte(b, '\n')
		name, value, ok := bytes.Cut(b[i+1:], []byte(":"))
		switch {
		case !ok: // the last chunk's size line
			return noStatus
		case equalFold(name, "grpc-status"):
			return parseStatus(bytes.TrimSpace(value))
		case i < 0:
			return noStatus
		}
		b = b[:i+1]
	}
}

// parseStatus reads the value of grpc-status; noStatus when it is none.
func parseStatus(value []byte) int {
	if len(value) == 0 || len(value) > 3 {
		return noStatus
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return noStatus
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// maxTimeout is the longest grpc-timeout that is kept account of: some 300 years is what a
// Duration holds, and a year is as good as no bound.
const maxTimeout = 365 * 24 * time.Hour

// parseTimeout reads the value of grpc-timeout: at most eight digits and a unit. ok is false
// for what is not one.
func parseTimeout(value []byte) (d time.Duration, ok bool) {
	n := len(value) - 1
	if n < 1 || n > 8 {
		return 0, false
	}
	amount, err := strconv.ParseUint(string(value[:n]), 10, 32)
	if err != nil || value[0] == '+' {
		return 0, false
	}
	for _, u := range timeoutUnits {
		if value[n] == u.name {
			if amount > uint64(maxTimeout/u.length) {
				return maxTimeout, true
			}
			return time.Duration(amount) * u.length, true
		}
	}
	return 0, false
}

var timeoutUnits = [...]struct {
	name   byte
	length time.Duration
}{{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour}}

// appendTimeout appends d as grpc-timeout has it, in the smallest unit in which it has no
// more than eight digits; shorter rather than longer.
func appendTimeout(dst []byte, d time.Duration) []byte {
	const tooMuch = 100_000_000
	for _, u := range timeoutUnits {
		if n := max(d, 0) / u.length; n < tooMuch {
			return append(strconv.AppendInt(dst, int64(n), 10), u.name)
		}
	}
	return append(dst, "99999999H"...)
}
