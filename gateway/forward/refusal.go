package forward

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/proxystatus"
)

// Error types of RFC 9209 §2.3 that refusals carry.
const (
	ErrDestinationNotFound    = "destination_not_found"
	ErrDestinationUnavailable = "destination_unavailable"
	ErrConnectionRefused      = "connection_refused"
	ErrConnectionTimeout      = "connection_timeout"
	ErrConnectionTerminated   = "connection_terminated"
	ErrConnectionLimit        = "connection_limit_reached"
	ErrRequestError           = "http_request_error"
	ErrRequestDenied          = "http_request_denied"
	ErrProxyLoop              = "proxy_loop_detected"
	ErrProxyInternal          = "proxy_internal_error"
)

// Refusal is why a path was not opened, as it is told to the client.
type Refusal struct {
	Status  int    // HTTP status
	Type    string // error type of RFC 9209, one of the constants above
	Details string // for the operator; no secrets: an unauthenticated client reads it

	// next is the Proxy-Status of the gateway that refused us, when it was
	// another: ours is appended to it.
	next string
}

// Refuse returns a refusal. Details are cut where they grow too long for a header.
func Refuse(status int, kind, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Type: kind, Details: clip(fmt.Sprintf(format, args...))}
}

// clip cuts s to maxDetails.
func clip(s string) string { return s[:min(len(s), maxDetails)] }

// Error returns "503 destination_unavailable: details".
func (r *Refusal) Error() string {
	return fmt.Sprintf("%d %s: %s", r.Status, r.Type, r.Details)
}

// proxyStatus returns the value of Proxy-Status: that of the gateways behind
// us, then ours (RFC 9209 §2: the list is in the order of the response's way).
func (r *Refusal) proxyStatus(proxy string) string {
	ours := proxystatus.Member(proxy, r.Type, r.Details)
	if r.next == "" {
		return ours
	}
	return r.next + ", " + ours
}

// http returns the refusal as an HTTP/1.1 response that ends the connection.
func (r *Refusal) http(proxy string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%s: %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		r.Status, http.StatusText(r.Status), HeaderProxyStatus, r.proxyStatus(proxy), len(r.Details)+1, r.Details)
}

// alert returns the refusal as a plaintext TLS alert record, for a client that
// speaks nothing else (RFC 8446 §6).
func (r *Refusal) alert() []byte {
	const (
		fatal            = 2
		handshakeFailure = 40
		accessDenied     = 49
		decodeError      = 50
		internalError    = 80
		unrecognizedName = 112
	)
	description := byte(internalError)
	switch r.Status {
	case http.StatusNotFound:
		description = unrecognizedName
	case http.StatusForbidden:
		description = accessDenied
	case http.StatusBadRequest:
		description = decodeError
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		description = handshakeFailure
	}
	return []byte{recordAlert, 3, 3, 0, 2, fatal, description}
}

// readProxyStatus returns the error type and the details that the last member
// of a Proxy-Status value carries, cut to maxDetails. It takes what our own
// gateways write and gives empty strings for what it cannot read.
func readProxyStatus(value string) (kind, details string) {
	members := splitOutsideQuotes(value, ',')
	params := splitOutsideQuotes(members[len(members)-1], ';')
	for _, p := range params[1:] {
		name, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		switch name {
		case "error":
			if mesh.CheckLabel(strings.ReplaceAll(v, "_", "-")) == nil {
				kind = v
			}
		case "details":
			details = unquote(v)
		}
	}
	return kind, clip(details)
}

// splitOutsideQuotes splits s at sep, except within quoted strings. The result
// is never empty.
func splitOutsideQuotes(s string, sep byte) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unquote reads an sf-string; what is not one is returned as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// proxyName is how a gateway calls itself in Proxy-Status: isthmus-west-1 for
// gateway west-1 of cluster west, isthmus-west.gw1 for gateway gw1.
func proxyName(id mesh.GatewayID) string {
	if strings.HasPrefix(string(id.Name), string(id.Cluster)+"-") {
		return "isthmus-" + string(id.Name)
	}
	return "isthmus-" + viaName(id)
}

// viaName is how a gateway calls itself in Via: unambiguous, since labels hold no dot.
func viaName(id mesh.GatewayID) string { return string(id.Cluster) + "." + string(id.Name) }
