package connect

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Request is a CONNECT: a path is asked for.
type Request struct {
	// Destination is the service port. Port 0, when SNI named the service,
	// stands for its first.
	Destination mesh.Destination
	Exclude     []Instance // who shall not serve
	Held        []Instance // to whom the client has paths: another one is preferred
	Via         []string   // gateways passed, by their [ViaName]
	// Goodbyes says that the client wants to be told when the path is about to end
	// ([AppendGoodbye]).
	Goodbyes bool
}

// ExcludesCluster reports whether the whole cluster is excluded.
func (r *Request) ExcludesCluster(c mesh.ClusterName) bool {
	return slices.Contains(r.Exclude, Instance{Cluster: c})
}

// ExcludesInstance reports whether the instance, or its whole cluster, is excluded.
func (r *Request) ExcludesInstance(i Instance) bool {
	return r.ExcludesCluster(i.Cluster) || slices.Contains(r.Exclude, i)
}

// ViaName is how a gateway calls itself in Via: unambiguous, since labels hold no dot.
func ViaName(id mesh.GatewayID) string { return string(id.Cluster) + "." + string(id.Name) }

// Pass notes in Via that the request passes the gateway self. It refuses what
// passed it already, or too many others.
func (r *Request) Pass(self mesh.GatewayID) *Refusal {
	name := ViaName(self)
	if slices.Contains(r.Via, name) {
		return Refuse(http.StatusLoopDetected, ProxyLoop, "the path leads back to gateway %s", name)
	}
	if len(r.Via) > maxVia {
		return Refuse(http.StatusLoopDetected, ProxyLoop, "the path passed %d gateways, at most %d may be", len(r.Via), maxVia)
	}
	r.Via = append(r.Via, name)
	return nil
}

// Append appends the request's head to b.
func (r *Request) Append(b []byte) []byte {
	authority := r.Destination.String()
	b = append(b, "CONNECT "...)
	b = append(b, authority...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, authority...)
	b = appendInstances(b, HeaderExclude, r.Exclude)
	b = appendInstances(b, HeaderHeld, r.Held)
	if r.Goodbyes {
		b = append(b, "\r\n"+HeaderGoodbye+": 1"...)
	}
	for i, name := range r.Via {
		if i == 0 {
			b = append(b, "\r\nVia: 1.1 "...)
		} else {
			b = append(b, ", 1.1 "...)
		}
		b = append(b, name...)
	}
	return append(b, "\r\n\r\n"...)
}

// ReadRequest reads a request from r, b being what was read before, and returns
// it with the payload that came behind its head. Its error is a [*Refusal] when
// there is somebody to tell, else what r said.
func ReadRequest(r io.Reader, b []byte) (req *Request, payload []byte, err error) {
	head, payload, err := readHead(r, b)
	if errors.Is(err, errHeadSize) {
		return nil, nil, Refuse(http.StatusRequestHeaderFieldsTooLarge, RequestError, "%v", err)
	}
	if err != nil {
		return nil, nil, err
	}
	req, refusal := parseRequest(head)
	if refusal != nil {
		return nil, nil, refusal // not a nil *Refusal as an error that is not nil
	}
	return req, payload, nil
}

// parseRequest reads the head of a request.
func parseRequest(head []byte) (*Request, *Refusal) {
	if bytes.Count(head, []byte("\n")) != bytes.Count(head, []byte("\r\n")) {
		return nil, badRequest("bare line feed in the head")
	}
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	if err != nil {
		return nil, badRequest("malformed head: %v", err)
	}
	return RequestOf(r)
}

// RequestOf returns what a request that net/http has parsed asks for.
func RequestOf(r *http.Request) (*Request, *Refusal) {
	if r.Method != http.MethodConnect {
		return nil, Refuse(http.StatusMethodNotAllowed, RequestError, "method %s: only CONNECT opens a path", r.Method)
	}
	// RFC 9110 §9.3.6: what follows the head of a CONNECT is the tunnel.
	if r.ContentLength > 0 || len(r.TransferEncoding) > 0 {
		return nil, badRequest("a CONNECT has no content")
	}
	dest, err := mesh.ParseDestination(r.Host)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	exclude, err := parseInstances(HeaderExclude, r.Header.Values(HeaderExclude))
	if err != nil {
		return nil, badRequest("%v", err)
	}
	held, err := parseInstances(HeaderHeld, r.Header.Values(HeaderHeld))
	if err != nil {
		return nil, badRequest("%v", err)
	}
	req := &Request{Destination: dest, Exclude: exclude, Held: held, Goodbyes: r.Header.Get(HeaderGoodbye) == "1"}
	for _, v := range r.Header.Values("Via") {
		for item := range strings.SplitSeq(v, ",") {
			f := strings.Fields(item) // protocol, name, comment
			if len(f) < 2 || !validName(f[1]) {
				return nil, badRequest("Via: %q: write protocol and name", item)
			}
			req.Via = append(req.Via, f[1])
		}
	}
	return req, nil
}

func badRequest(format string, args ...any) *Refusal {
	return Refuse(http.StatusBadRequest, RequestError, format, args...)
}
