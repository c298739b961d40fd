package connect

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Header names of ours.
const (
	HeaderExclude  = "Isthmus-Exclude"
	HeaderCluster  = "Isthmus-Cluster"
	HeaderInstance = "Isthmus-Instance"
	HeaderGoodbye  = "Isthmus-Goodbye"
	HeaderHeld     = "Isthmus-Held"
	HeaderWeight   = "Isthmus-Weight"
)

// Opened says who serves a path.
type Opened struct {
	Instance
	Weight uint32 // of the instance in its cluster; 0: not said
}

// ErrReply is why a reply to CONNECT cannot be read although bytes have come: who
// sent them is no gateway.
var ErrReply = errors.New("the reply to CONNECT is malformed: is this a gateway's mesh port?")

// AppendOpened appends to b the head that tells a client its path is open, and
// who serves it.
func AppendOpened(b []byte, who Opened) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\n"+HeaderCluster+": "...)
	b = append(b, who.Cluster...)
	if who.Name != "" {
		b = append(b, "\r\n"+HeaderInstance+": "...)
		b = append(b, who.Name...)
	}
	if who.Weight != 0 {
		b = append(b, "\r\n"+HeaderWeight+": "...)
		b = strconv.AppendUint(b, uint64(who.Weight), 10)
	}
	return append(b, "\r\n\r\n"...)
}

// ReadReply reads the reply to CONNECT from r, into buf as far as it fits, and
// returns who serves, as the gateway says, with the payload that came behind the
// head. Its error is a [*Refusal] when the gateway refused the path, an
// [ErrReply] when what came is no reply, else what r said.
func ReadReply(r io.Reader, buf []byte) (who Opened, payload []byte, err error) {
	for range maxInterim + 1 {
		var head []byte
		head, buf, err = readHead(r, buf)
		switch {
		case errors.Is(err, errHeadSize):
			return Opened{}, nil, fmt.Errorf("%w (%w)", ErrReply, err)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return Opened{}, nil, errors.New("the gateway closed the connection without a reply to CONNECT")
		case err != nil:
			return Opened{}, nil, fmt.Errorf("read the gateway's reply to CONNECT: %w", err)
		}
		who, final, err := parseReply(head)
		switch {
		case err != nil:
			return Opened{}, nil, err
		case final:
			return who, buf, nil
		}
	}
	return Opened{}, nil, fmt.Errorf("%w (more than %d interim heads)", ErrReply, maxInterim)
}

// parseReply reads the head of a reply. final is false when another follows (1xx).
func parseReply(head []byte) (who Opened, final bool, err error) {
	resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(head), len(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return Opened{}, false, fmt.Errorf("%w (%w)", ErrReply, err)
	}
	_ = resp.Body.Close() // of the head's own bytes
	switch status := resp.StatusCode; {
	case status < 200 && status != http.StatusSwitchingProtocols:
		return Opened{}, false, nil
	case status >= 200 && status < 300:
		if c := resp.Header.Get(HeaderCluster); mesh.CheckLabel(c) == nil {
			who.Cluster = mesh.ClusterName(c)
		}
		if i := resp.Header.Get(HeaderInstance); validName(i) {
			who.Name = i
		}
		if w, err := strconv.ParseUint(resp.Header.Get(HeaderWeight), 10, 32); err == nil && w <= maxWeight {
			who.Weight = uint32(w)
		}
		return who, true, nil
	}
	return Opened{}, true, RefusalOf(resp)
}

// RefusalOf returns the refusal that resp, a reply with a status other than 2xx, is.
func RefusalOf(resp *http.Response) *Refusal {
	r := &Refusal{Status: resp.StatusCode, Behind: strings.Join(resp.Header.Values(HeaderProxyStatus), ", ")}
	if r.Status < 400 || r.Status > 599 {
		r.Status = http.StatusBadGateway
	}
	if len(r.Behind) > maxBehind || strings.ContainsFunc(r.Behind, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
		r.Behind = "" // not what a gateway of ours writes, and not to be passed on
	}
	r.Proxy, r.Type, r.Details = parseProxyStatus(r.Behind)
	if !validType(r.Type) {
		r.Type = DestinationUnavailable
	}
	if r.Details = clip(r.Details); r.Details == "" {
		r.Details = fmt.Sprintf("refused with status %d", resp.StatusCode)
	}
	return r
}
