package federation

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// signedDelta is an answer to "GET /catalog?origin=…".
type signedDelta struct {
	Delta     *catalog.Delta
	Signature identity.Signature // of Delta.Head.SignedBytes, by the origin
}

// deltaHead is its first line: who says what, and how many lines follow.
type deltaHead struct {
	Head      catalog.Head       `json:"head"`
	Signature identity.Signature `json:"signature"`
	Whole     bool               `json:"whole,omitempty"`
	Since     uint64             `json:"since,omitempty"`
	Removed   int                `json:"removed"`
	Records   int                `json:"records"`
}

// versionList is an answer to "GET /catalog".
type versionList struct {
	Origins []catalog.Head
	// Advertise is what other gateways dial to reach the answering one, and MeshAddress
	// what the sidecars of its cluster dial.
	Advertise, MeshAddress string
}

// listHead is its first line.
type listHead struct {
	Advertise   string `json:"advertise"`
	MeshAddress string `json:"mesh_address"`
	Origins     int    `json:"origins"`
}

// write writes the answer: one JSON value a line.
func (d signedDelta) write(w io.Writer) error {
	x := d.Delta
	return writeLines(w, deltaHead{x.Head, d.Signature, x.Whole, x.Since, len(x.Removed), len(x.Records)}, linesOf(x.Removed), linesOf(x.Records))
}

// write writes the answer: one JSON value a line.
func (l versionList) write(w io.Writer) error {
	return writeLines(w, listHead{l.Advertise, l.MeshAddress, len(l.Origins)}, linesOf(l.Origins))
}

// linesOf gives each of all to write.
func linesOf[T any](all []T) func(write func(any) error) error {
	return func(write func(any) error) error {
		for i := range all {
			if err := write(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func writeLines(w io.Writer, head any, parts ...func(func(any) error) error) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false) // records go on as they came: their digest is of their bytes
	if err := e.Encode(head); err != nil {
		return err
	}
	for _, part := range parts {
		if err := part(e.Encode); err != nil {
			return err
		}
	}
	return b.Flush()
}

// readSignedDelta reads an answer to "GET /catalog?origin=…" line by line. Nothing but
// its first line is read unless verify accepts that; and then no more than that says and
// a catalog may be.
func readSignedDelta(body io.Reader, gzipped bool, verify func(catalog.Head, identity.Signature) error) (*signedDelta, error) {
	l, err := newLineReader(body, gzipped, catalog.MaxPullBytes)
	if err != nil {
		return nil, err
	}
	var h deltaHead
	if err := l.read(&h); err != nil {
		return nil, err
	}
	switch {
	case h.Head.Origin.IsZero():
		return nil, errors.New("no delta in the answer")
	case h.Records < 0 || h.Records > catalog.MaxRecords || h.Removed < 0 || h.Removed > catalog.MaxTombstones:
		return nil, fmt.Errorf("delta with %d records and %d removals: at most %d and %d", h.Records, h.Removed, catalog.MaxRecords, catalog.MaxTombstones)
	}
	if err := verify(h.Head, h.Signature); err != nil {
		return nil, err
	}
	d := &catalog.Delta{Head: h.Head, Whole: h.Whole, Since: h.Since}
	if d.Removed, err = readLines[catalog.Removal](l, h.Removed); err != nil {
		return nil, err
	}
	if d.Records, err = readLines[catalog.DeltaRecord](l, h.Records); err != nil {
		return nil, err
	}
	return &signedDelta{d, h.Signature}, l.end()
}

// readVersionList reads an answer to "GET /catalog" line by line.
func readVersionList(body io.Reader, gzipped bool) (*versionList, error) {
	l, err := newLineReader(body, gzipped, maxListBytes)
	if err != nil {
		return nil, err
	}
	var h listHead
	if err := l.read(&h); err != nil {
		return nil, err
	}
	if h.Origins < 0 || h.Origins > core.MaxGateways {
		return nil, fmt.Errorf("list of %d origins: at most %d", h.Origins, core.MaxGateways)
	}
	if len(h.Advertise) > maxAddress || len(h.MeshAddress) > maxAddress {
		return nil, fmt.Errorf("addresses of %d and %d bytes: at most %d", len(h.Advertise), len(h.MeshAddress), maxAddress)
	}
	origins, err := readLines[catalog.Head](l, h.Origins)
	if err != nil {
		return nil, err
	}
	return &versionList{origins, h.Advertise, h.MeshAddress}, l.end()
}

// lineReader reads JSON values, one a line, within bounds.
type lineReader struct {
	all *io.LimitedReader
	buf *bufio.Reader
}

// newLineReader reads body, which may be compressed, up to limit bytes after that.
func newLineReader(body io.Reader, gzipped bool, limit int64) (*lineReader, error) {
	if gzipped {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		body = z
	}
	all := &io.LimitedReader{R: body, N: limit + 1}
	return &lineReader{all, bufio.NewReaderSize(all, maxLineBytes)}, nil
}

func (l *lineReader) read(into any) error {
	line, err := l.buf.ReadSlice('\n')
	switch {
	case l.all.N <= 0:
		return errors.New("more than a catalog may have")
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("a line of more than %d bytes", maxLineBytes)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it ends within: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return err
	}
	return json.Unmarshal(line, into)
}

// end returns an error when anything follows.
func (l *lineReader) end() error {
	switch _, err := l.buf.ReadByte(); {
	case err == nil:
		return errors.New("more lines than the first one says")
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// readLines reads n values; it makes room for them as they come.
func readLines[T any](l *lineReader, n int) ([]T, error) {
	var all []T
	for range n {
		var v T
		if err := l.read(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
