package federation

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// client asks other gateways what their [Federation.Handler] answers.
type client struct{ tunnel *tunnel.Node }

// request asks a gateway on a stream of its own and hands the answer to read,
// which must not keep it. All of it ends within requestTimeout.
func (c client) request(ctx context.Context, to mesh.GatewayID, method, path string, body []byte, read func(*http.Response) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.tunnel.Open(ctx, to)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Abort() })
	defer stop()
	defer func() {
		if err != nil {
			_ = s.Abort()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+GossipAuthority+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	req.Close = true
	if err := req.Write(s); err != nil {
		return err
	}
	// Heads and compressed bodies are no longer than the longest plain body.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(s, catalog.MaxPullBytes)), req) //nolint:bodyclose // the stream is closed
	if err != nil {
		return err
	}
	if err := read(resp); err != nil {
		return err
	}
	return s.Close()
}

// answered returns an error that quotes an answer which is not of the given status.
func answered(r *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(r.Body, 200))
	return fmt.Errorf("answered %s: %q", r.Status, b)
}

func gzipped(r *http.Response) bool { return r.Header.Get("Content-Encoding") == "gzip" }

// versions asks a gateway what it holds and where its sidecars find it.
func (c client) versions(ctx context.Context, from mesh.GatewayID) (l *versionList, err error) {
	err = c.request(ctx, from, http.MethodGet, pathCatalog, nil, func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return answered(r)
		}
		var err error
		l, err = readVersionList(r.Body, gzipped(r))
		return err
	})
	return l, err
}

// delta asks a gateway for an origin's catalog since a version; nil: it has
// nothing newer. Nothing is read but the head and its signature unless verify takes them.
func (c client) delta(ctx context.Context, from, origin mesh.GatewayID, have catalog.Version, verify func(catalog.Head, identity.Signature) error) (d *signedDelta, err error) {
	q := url.Values{"origin": {origin.String()}, "epoch": {strconv.FormatUint(have.Epoch, 10)}, "since": {strconv.FormatUint(have.Seq, 10)}}
	err = c.request(ctx, from, http.MethodGet, pathCatalog+"?"+q.Encode(), nil, func(r *http.Response) error {
		switch r.StatusCode {
		case http.StatusOK:
			var err error
			d, err = readSignedDelta(r.Body, gzipped(r), verify)
			return err
		case http.StatusNoContent:
			return nil
		}
		return answered(r)
	})
	return d, err
}
