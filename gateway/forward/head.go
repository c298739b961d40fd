package forward

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxVia is how many gateways a CONNECT may have passed: the near one, and one
// between that relays.
const maxVia = 2

var errHeadSize = fmt.Errorf("head longer than %d bytes", maxHead)

// readHead reads from r up to the empty line that ends an HTTP head, b being
// what was read before, and returns the head with that line and what follows it.
func readHead(r io.Reader, b []byte) (head, rest []byte, err error) {
	from := 0
	for {
		if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
			end := from + i + 4
			if end > maxHead {
				return nil, nil, errHeadSize
			}
			return b[:end:end], b[end:], nil
		}
		if len(b) >= maxHead {
			return nil, nil, errHeadSize
		}
		from = max(len(b)-3, 0)
		b = slices.Grow(b, firstRead)
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, nil, err
		}
	}
}

// connect is a CONNECT as it was read.
type connect struct {
	Request
	via []string // gateways passed
}

// parseConnect reads the head of a CONNECT.
func parseConnect(head []byte) (*connect, *Refusal) {
	if bytes.Count(head, []byte("\n")) != bytes.Count(head, []byte("\r\n")) {
		return nil, Refuse(http.StatusBadRequest, ErrRequestError, "bare line feed in the head")
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, ErrRequestError, "malformed head: %v", err)
	}
	return connectOf(r)
}

// connectOf checks a CONNECT and reads what it asks for.
func connectOf(r *http.Request) (*connect, *Refusal) {
	bad := func(format string, args ...any) *Refusal {
		return Refuse(http.StatusBadRequest, ErrRequestError, format, args...)
	}
	if r.Method != http.MethodConnect {
		return nil, Refuse(http.StatusMethodNotAllowed, ErrRequestError, "method %s: only CONNECT opens a path", r.Method)
	}
	// RFC 9110 §9.3.6: what follows the head of a CONNECT is the tunnel.
	if r.ContentLength > 0 || len(r.TransferEncoding) > 0 {
		return nil, bad("a CONNECT has no content")
	}
	dest, err := mesh.ParseDestination(r.Host)
	if err != nil {
		return nil, bad("%v", err)
	}
	exclude, err := parseExclude(r.Header.Values(HeaderExclude))
	if err != nil {
		return nil, bad("%v", err)
	}
	c := &connect{Request: Request{Destination: dest, Exclude: exclude}}
	for _, v := range r.Header.Values("Via") {
		for item := range strings.SplitSeq(v, ",") {
			f := strings.Fields(item) // protocol, name, comment
			if len(f) < 2 || !validInstance(f[1]) {
				return nil, bad("Via: %q: write protocol and name", item)
			}
			c.via = append(c.via, f[1])
		}
	}
	return c, nil
}

// checkVia refuses a CONNECT that passed self already, or too many others.
func checkVia(via []string, self string) *Refusal {
	if slices.Contains(via, self) {
		return Refuse(http.StatusLoopDetected, ErrProxyLoop, "the path leads back to gateway %s", self)
	}
	if len(via) > maxVia {
		return Refuse(http.StatusLoopDetected, ErrProxyLoop, "the path passed %d gateways, at most %d may be", len(via), maxVia)
	}
	return nil
}

// formatConnect returns the head of a CONNECT to a far gateway.
func formatConnect(dest mesh.Destination, exclude []Exclusion, via []string) []byte {
	authority := dest.String()
	b := fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", authority, authority)
	if len(exclude) > 0 {
		b = fmt.Appendf(b, "%s: %s\r\n", HeaderExclude, formatExclude(exclude))
	}
	for i, name := range via {
		if i == 0 {
			b = append(b, "Via: 1.1 "...)
		} else {
			b = append(b, ", 1.1 "...)
		}
		b = append(b, name...)
	}
	if len(via) > 0 {
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// formatOpened returns the reply that tells a client its path is open.
func formatOpened(cluster mesh.ClusterName, instance string) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\n%s: %s\r\n", HeaderCluster, cluster)
	if instance != "" {
		b = fmt.Appendf(b, "%s: %s\r\n", HeaderInstance, instance)
	}
	return append(b, "\r\n"...)
}

// parseReply reads the head of a far gateway's reply: who serves, or why nobody
// does.
func parseReply(head []byte, from mesh.GatewayID) (cluster mesh.ClusterName, instance string, refusal *Refusal) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return "", "", Refuse(http.StatusBadGateway, ErrProxyInternal, "malformed reply: %v", err)
	}
	_ = resp.Body.Close() // reads from memory
	if resp.StatusCode == http.StatusOK {
		cluster = from.Cluster
		if c := resp.Header.Get(HeaderCluster); mesh.CheckLabel(c) == nil {
			cluster = mesh.ClusterName(c)
		}
		if i := resp.Header.Get(HeaderInstance); validInstance(i) {
			instance = i
		}
		return cluster, instance, nil
	}
	r := &Refusal{Status: resp.StatusCode, next: strings.Join(resp.Header.Values(HeaderProxyStatus), ", ")}
	if r.Status < 400 || r.Status > 599 {
		r.Status = http.StatusBadGateway
	}
	if len(r.next) > 2*maxDetails || strings.ContainsFunc(r.next, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
		r.next = "" // not what a gateway of ours writes, and not to be passed on
	}
	r.Type, r.Details = readProxyStatus(r.next)
	if r.Type == "" {
		r.Type = ErrDestinationUnavailable
	}
	if r.Details == "" {
		r.Details = fmt.Sprintf("refused with status %d", resp.StatusCode)
	}
	return "", "", r
}
