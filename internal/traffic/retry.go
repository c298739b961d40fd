package traffic

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// RetriedStatuses are the statuses of gRPC upon which a call can be sent again: those that may
// pass, of which Envoy can be told as well. The others say that the call is wrong, or that it has failed for good
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const RetriedStatuses = "CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL or UNAVAILABLE"

// retriedStatus names one of [RetriedStatuses] by its number; empty: it is none of them.
func retriedStatus(number int) string {
	switch number {
	case 1:
		return "CANCELLED"
	case 4:
		return "DEADLINE_EXCEEDED"
	case 8:
		return "RESOURCE_EXHAUSTED"
	case 13:
		return "INTERNAL"
	case 14:
		return "UNAVAILABLE"
	}
	return ""
}

// IsRetriedStatus reports whether name is one of [RetriedStatuses].
func IsRetriedStatus(name string) bool {
	for number := range 17 {
		if name != "" && retriedStatus(number) == name {
			return true
		}
	}
	return false
}

// CheckRetry calls fault with every thing in r that cannot be meant, and its key as an HTTPRoute
// has it.
func CheckRetry(r *mesh.Retry, fault func(key, format string, args ...any)) {
	if n := len(r.Codes) + len(r.Statuses); n > MaxCodes {
		fault("codes", "has %d: at most %d are read", n, MaxCodes)
		return
	}
	for _, code := range r.Codes {
		if code < 400 || code > 599 {
			fault("codes", "%d is no status of an error: write 400 to 599", code)
		}
	}
	for _, name := range r.Statuses {
		if !IsRetriedStatus(name) {
			fault("codes", "%q is nothing upon which a call is sent again: write %s", name, RetriedStatuses)
		}
	}
	if r.Attempts < 1 || r.Attempts > MaxRetries {
		fault("attempts", "%d is out of range: write 1 to %d", r.Attempts, MaxRetries)
	}
	if r.Backoff < 0 || r.Backoff > MaxBackoff {
		fault("backoff", "%s is out of range: write at most %s", r.Backoff, MaxBackoff)
	}
}

// Retries reports whether what the rule matches may be sent again after an answer with code, a
// status of HTTP, and status, one of gRPC; negative: it has none.
func (r *Rule) Retries(code, status int) bool {
	x := r.Action.Retry
	return x != nil && (slices.Contains(x.Codes, code) || slices.Contains(x.Statuses, retriedStatus(status)))
}
