// Package proxystatus writes Proxy-Status (RFC 9209), by which a gateway or a
// sidecar says why it answered itself.
package proxystatus

import "strings"

// maxDetails bounds the details, in bytes: an error may quote a lot.
const maxDetails = 512

// Member returns one member of the field: the proxy's name, the error type and
// the details, which become a quoted string of RFC 8941 §3.3.3. proxy and kind
// must be tokens.
func Member(proxy, kind, details string) string {
	var b strings.Builder
	b.WriteString(proxy)
	b.WriteString("; error=")
	b.WriteString(kind)
	b.WriteString(`; details="`)
	for i := range min(len(details), maxDetails) {
		switch c := details[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
