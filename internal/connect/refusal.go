package connect

import (
	"fmt"
	"net/http"
)

// Error types of RFC 9209 §2.3 that refusals carry.
const (
	DestinationNotFound    = "destination_not_found"
	DestinationUnavailable = "destination_unavailable"
	ConnectionRefused      = "connection_refused"
	ConnectionTimeout      = "connection_timeout"
	ConnectionTerminated   = "connection_terminated"
	ConnectionLimit        = "connection_limit_reached"
	RequestError           = "http_request_error"
	RequestDenied          = "http_request_denied"
	ProxyLoop              = "proxy_loop_detected"
	ProxyInternal          = "proxy_internal_error"
)

// Refusal is why a path was not opened, as a gateway says it to its client. It
// never changes once it is made.
type Refusal struct {
	Status  int    // HTTP status, 400 to 599
	Type    string // error type of RFC 9209
	Details string // for the operator; no secrets: an unauthenticated client reads it

	// Proxy is who refused, by its name in Proxy-Status; empty when we do, or
	// when it was not said.
	Proxy string
	// Behind is the Proxy-Status of the gateways behind us, to which ours is
	// appended; empty when it is we who refuse.
	Behind string
}

// Refuse returns a refusal of ours. Details are cut where they grow too long for
// a header.
func Refuse(status int, kind, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Type: kind, Details: clip(fmt.Sprintf(format, args...))}
}

// clip cuts s to maxDetails.
func clip(s string) string { return s[:min(len(s), maxDetails)] }

// Error names the status, who refused, and why.
func (r *Refusal) Error() string {
	by := ""
	if r.Proxy != "" {
		by = " by " + r.Proxy
	}
	return fmt.Sprintf("refused with status %d%s: %s: %s", r.Status, by, r.Type, r.Details)
}

// ProxyStatus returns the value of Proxy-Status when proxy tells its client of
// r: that of the gateways behind it, then its own (RFC 9209 §2: the list is in
// the order of the response's way).
func (r *Refusal) ProxyStatus(proxy string) string {
	own := ProxyStatus(proxy, r.Type, r.Details)
	if r.Behind == "" {
		return own
	}
	return r.Behind + ", " + own
}

// Append appends to b the refusal as an HTTP/1.1 response of proxy, which ends
// the connection. Nobody may keep it: what it says may be over in a moment.
func (r *Refusal) Append(b []byte, proxy string) []byte {
	return fmt.Appendf(b, "HTTP/1.1 %d %s\r\n%s: %s\r\nCache-Control: no-store\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		r.Status, http.StatusText(r.Status), HeaderProxyStatus, r.ProxyStatus(proxy), len(r.Details)+1, r.Details)
}
