package upstream

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// reply is the head of an answer to CONNECT.
type reply struct {
	final   bool // not 1xx
	who     remoteName
	refusal *Refusal // nil for 1xx and 2xx
}

// parseReply reads one head, the empty line included.
func parseReply(head []byte) (reply, error) {
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return reply{}, fmt.Errorf("the gateway's reply to CONNECT is not HTTP: is this a gateway's mesh port? %w", err)
	}
	_ = res.Body.Close() // of the head's own bytes
	switch status := res.StatusCode; {
	case status < 200:
		return reply{}, nil
	case status < 300:
		who := remoteName{mesh.ClusterName(res.Header.Get("Isthmus-Cluster")), res.Header.Get("Isthmus-Instance")}
		if !who.valid() {
			who = remoteName{} // nameless: what fails is the gateway's fault
		}
		return reply{final: true, who: who}, nil
	default:
		r := &Refusal{Status: status}
		r.Proxy, r.Reason, r.Details = parseProxyStatus(strings.Join(res.Header.Values("Proxy-Status"), ", "))
		return reply{final: true, refusal: r}, nil
	}
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
