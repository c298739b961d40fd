package connect

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// HeaderProxyStatus is the field by which a gateway or a sidecar says why it
// answered itself (RFC 9209).
const HeaderProxyStatus = "Proxy-Status"

// ProxyName is how a gateway calls itself in Proxy-Status: isthmus-west-1 for
// gateway west-1 of cluster west, isthmus-west.gw1 for gateway gw1.
func ProxyName(id mesh.GatewayID) string {
	if strings.HasPrefix(string(id.Name), string(id.Cluster)+"-") {
		return "isthmus-" + string(id.Name)
	}
	return "isthmus-" + ViaName(id)
}

// ProxyStatus returns one member of the field: the proxy's name, the error type
// and the details, which become a quoted string of RFC 8941 §3.3.3. proxy and
// kind must be tokens.
func ProxyStatus(proxy, kind, details string) string {
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

// parseProxyStatus returns the first member of a Proxy-Status list that has an
// error, or else the first: the list begins with the proxy that is nearest to
// the origin, which is who knows best. It is lenient with what is not quite a
// structured field; nothing is routed on it.
func parseProxyStatus(list string) (proxy, reason, details string) {
	for i := 0; i < len(list); {
		var name, err, text string
		name, i = item(list, i)
		for i < len(list) && list[i] == ';' {
			var key, value string
			key, i = item(list, i+1)
			if i < len(list) && list[i] == '=' {
				value, i = item(list, i+1)
			}
			switch key {
			case "error":
				err = value
			case "details":
				text = value
			}
		}
		if proxy == "" || err != "" {
			proxy, reason, details = name, err, text
		}
		if err != "" {
			return proxy, reason, details
		}
		for i < len(list) && list[i] != ',' {
			i++ // not a structured field; go on behind the next comma
		}
		i++
	}
	return proxy, reason, details
}

// item reads a token or a quoted string at i and returns it and where it ends,
// blanks around it skipped.
func item(s string, i int) (string, int) {
	blanks := func() {
		for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
			i++
		}
	}
	blanks()
	if i >= len(s) {
		return "", i
	}
	if s[i] != '"' {
		start := i
		for i < len(s) && !strings.ContainsRune(" \t,;=\"", rune(s[i])) {
			i++
		}
		token := s[start:i]
		blanks()
		return token, i
	}
	var b strings.Builder
	for i++; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	if i < len(s) {
		i++ // the closing quote
	}
	blanks()
	return b.String(), i
}

// validType reports whether s looks like an error type of RFC 9209, which may go
// into a field of ours as it is.
func validType(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return s != ""
}
