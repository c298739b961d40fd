package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

var (
	errPathStart   = errors.New("the path does not begin with a slash")
	errPathByte    = errors.New("the path holds a byte that has to be escaped, a backslash or a semicolon")
	errPathEscape  = errors.New("the path holds a broken escape, or one of a slash, a backslash, a control byte, an escape, or no UTF-8")
	errPathAbove   = errors.New("the path leads above its root")
	errPathUnclear = errors.New("the path is not in its normal form")
)

// AppendPath appends to dst the normal form of a request's path, which is without its
// query: no empty, "." or ".." segments, and escapes, in upper case, only of what cannot
// stand as it is (RFC 3986 §6.2.2, but for ":", "=" and their like, which programs do not
// tell from their escapes). A slash at its end stays. What programs read in more than
// one way has no normal form and is an error: escaped slashes, backslashes and control
// bytes, escapes of escapes, what is not UTF-8, semicolons (path parameters, which some
// programs cut off), and paths that lead above the root. dst and path must not overlap.
func AppendPath(dst, path []byte) ([]byte, error) {
	if len(path) == 0 || path[0] != '/' {
		return dst, errPathStart
	}
	root := len(dst)
	for len(path) > 0 { // a slash and the segment behind it
		dst = append(dst, '/')
		start := len(dst)
		path = path[1:]
		for len(path) > 0 && path[0] != '/' {
			var err error
			if dst, path, err = appendCharacter(dst, path); err != nil {
				return dst[:root], err
			}
		}
		last := len(path) == 0
		switch segment := dst[start:]; {
		case escapesAgain(segment):
			return dst[:root], errPathEscape
		case len(segment) == 0 && !last, string(segment) == ".":
			dst = dst[:start-1]
		case string(segment) == "..":
			dst = dst[:start-1]
			if len(dst) == root {
				return dst, errPathAbove
			}
			for dst[len(dst)-1] != '/' {
				dst = dst[:len(dst)-1]
			}
			dst = dst[:len(dst)-1]
		default:
			continue
		}
		if last {
			dst = append(dst, '/')
		}
	}
	return dst, nil
}

// appendCharacter appends the normal form of the first character of path and returns
// what is behind it.
func appendCharacter(dst, path []byte) (out, rest []byte, err error) {
	if c := path[0]; plain[c] {
		return append(dst, c), path[1:], nil
	} else if c != '%' {
		return dst, path, errPathByte
	}
	var raw [utf8.UTFMax]byte
	n := 0
	for n < len(raw) {
		b, ok := unescape(path[3*n:])
		if !ok {
			break
		}
		raw[n] = b
		if n++; raw[0] < utf8.RuneSelf || utf8.FullRune(raw[:n]) {
			break
		}
	}
	if n == 0 {
		return dst, path, errPathEscape
	}
	rest = path[3*n:]
	switch c := raw[0]; {
	case c >= utf8.RuneSelf:
		if r, size := utf8.DecodeRune(raw[:n]); r == utf8.RuneError && size <= 1 || size != n {
			return dst, path, errPathEscape
		}
	case c < ' ', c == 0x7f, c == '/', c == '\\':
		return dst, path, errPathEscape
	case plain[c]:
		return append(dst, c), rest, nil
	}
	for _, b := range raw[:n] {
		const digits = "0123456789ABCDEF"
		dst = append(dst, '%', digits[b>>4], digits[b&15])
	}
	return dst, rest, nil
}

// escapesAgain reports whether a segment still has an escape once it is unescaped.
func escapesAgain(segment []byte) bool {
	for {
		i := bytes.Index(segment, percent)
		if i < 0 || len(segment) < i+5 {
			return false
		}
		if segment = segment[i+3:]; hex(segment[0]) < 16 && hex(segment[1]) < 16 {
			return true
		}
	}
}

var percent = []byte("%25")

// unescape reads the escape that b begins with.
func unescape(b []byte) (byte, bool) {
	if len(b) < 3 || b[0] != '%' {
		return 0, false
	}
	hi, lo := hex(b[1]), hex(b[2])
	return hi<<4 | lo, hi < 16 && lo < 16
}

func hex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// plain are the bytes that stand in a path as they are.
var plain = func() (p [256]bool) {
	for c := byte('!'); c < 0x7f; c++ {
		p[c] = strings.IndexByte("\"#%/;<>?\\^`{|}", c) < 0
	}
	return p
}()

// isNormal reports whether AppendPath would give path as it is.
func isNormal(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	segment := 0 // where it begins
	for at := 1; ; {
		if at == len(path) || path[at] == '/' {
			switch s := path[segment+1 : at]; {
			case len(s) == 0 && at < len(path), string(s) == ".", string(s) == "..", escapesAgain(s):
				return false
			case at == len(path):
				return true
			}
			segment = at
			at++
			continue
		}
		if plain[path[at]] {
			at++
			continue
		}
		var buf [3 * utf8.UTFMax]byte
		out, rest, err := appendCharacter(buf[:0], path[at:])
		next := len(path) - len(rest)
		if err != nil || string(out) != string(path[at:next]) {
			return false
		}
		at = next
	}
}

// checkPath accepts a path in its normal form, with /* behind it for all below.
func checkPath(s string) error {
	if len(s) > MaxText {
		return fmt.Errorf("is longer than %d bytes", MaxText)
	}
	path := s
	if prefix, below := strings.CutSuffix(s, "/*"); below {
		path = prefix + "/"
	}
	if strings.Contains(path, Any) {
		return fmt.Errorf("%q: * may only stand at the end, behind a slash", s)
	}
	normal, err := AppendPath(nil, []byte(path))
	if err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	if string(normal) != path {
		return fmt.Errorf("%q: %w: write %s", s, errPathUnclear, normal)
	}
	return nil
}

// pathRule is a path of a rule.
type pathRule struct {
	path  string // without the slash at its end
	below bool   // and everything below it
}

func compilePath(s string) pathRule {
	prefix, below := strings.CutSuffix(s, "/*")
	return pathRule{strings.TrimSuffix(prefix, "/"), below}
}

// matches compares with a path in its normal form. A slash at the end makes no
// difference.
func (r *pathRule) matches(path []byte, fold bool) bool {
	n := len(r.path)
	if len(path) < n || !equal(path[:n], r.path, fold) {
		return false
	}
	rest := path[n:]
	return len(rest) == 0 || rest[0] == '/' && (r.below || len(rest) == 1)
}

// equal compares, in either case of ASCII letters with fold.
func equal(b []byte, s string, fold bool) bool {
	if len(b) != len(s) {
		return false
	}
	if string(b) == s {
		return true
	}
	if !fold {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
