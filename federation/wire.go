package federation

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// signedDelta is the body of an answer to "GET /catalog?origin=…".
type signedDelta struct {
	Delta     *catalog.Delta     `json:"delta"`
	Signature identity.Signature `json:"signature"` // of Delta.Head.SignedBytes, by the origin
}

// versionList is the body of an answer to "GET /catalog".
type versionList struct {
	Origins []catalog.Head `json:"origins"`
	// Advertise is what other gateways dial to reach the answering one, and MeshAddress
	// what the sidecars of its cluster dial.
	Advertise   string `json:"advertise"`
	MeshAddress string `json:"mesh_address"`
}

// decodeSignedDelta reads an answer to "GET /catalog?origin=…" within bounds. It
// checks form only.
func decodeSignedDelta(body io.Reader, gzipped bool) (*signedDelta, error) {
	var d signedDelta
	if err := decodeBody(body, gzipped, catalog.MaxPullBytes, &d); err != nil {
		return nil, err
	}
	if d.Delta == nil || d.Delta.Head.Origin.IsZero() {
		return nil, errors.New("no delta in the answer")
	}
	return &d, nil
}

// decodeVersionList reads an answer to "GET /catalog" within bounds.
func decodeVersionList(body io.Reader, gzipped bool) (*versionList, error) {
	var l versionList
	if err := decodeBody(body, gzipped, maxListBytes, &l); err != nil {
		return nil, err
	}
	if len(l.Origins) > core.MaxGateways {
		return nil, fmt.Errorf("list of %d origins: at most %d", len(l.Origins), core.MaxGateways)
	}
	if len(l.Advertise) > maxAddress || len(l.MeshAddress) > maxAddress {
		return nil, fmt.Errorf("addresses of %d and %d bytes: at most %d", len(l.Advertise), len(l.MeshAddress), maxAddress)
	}
	return &l, nil
}

// decodeBody reads one JSON value of at most limit bytes after decompression.
func decodeBody(body io.Reader, gzipped bool, limit int64, into any) error {
	if gzipped {
		z, err := gzip.NewReader(body)
		if err != nil {
			return fmt.Errorf("decompress: %w", err)
		}
		body = z
	}
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > limit {
		return fmt.Errorf("more than %d bytes", limit)
	}
	return json.Unmarshal(b, into)
}

// writeJSON answers with v, compressed when the client understands that.
func writeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return json.NewEncoder(w).Encode(v)
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	if err := json.NewEncoder(z).Encode(v); err != nil {
		return err
	}
	return z.Close()
}
