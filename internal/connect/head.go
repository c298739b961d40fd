package connect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

var errHeadSize = fmt.Errorf("head longer than %d bytes", maxHead)

// readHead reads from r up to the empty line that ends an HTTP head, b being
// what was read before, and returns the head with that line and what follows it.
// Both lie in b's array, or in a larger one when b was too small.
func readHead(r io.Reader, b []byte) (head, rest []byte, err error) {
	seen := 0 // bytes in which the end does not begin
	for {
		if i := bytes.Index(b[seen:], []byte("\r\n\r\n")); i >= 0 {
			end := seen + i + 4
			if end > maxHead {
				return nil, nil, errHeadSize
			}
			return b[:end:end], b[end:], nil
		}
		if len(b) >= maxHead {
			return nil, nil, errHeadSize
		}
		seen = max(len(b)-3, 0)
		if len(b) == cap(b) {
			b = slices.Grow(b, max(len(b), readSize))
		}
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
