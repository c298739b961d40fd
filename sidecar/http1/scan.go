package http1

import (
	"encoding/binary"
	"math/bits"
)

// Classes of bytes, RFC 9110 §5.6.2 and RFC 3986 §3.
const (
	classToken   = 1 << iota // tchar
	classPath                // what a target may hold before its query, besides escapes
	classQuery               // what a target may hold in its query
	classRegName             // what a host name may hold, besides escapes
)

// classes maps a byte to its classes; nothing writes it after start.
var classes = func() (t [256]uint8) {
	const tchar = "!#$%&'*+-.^_`|~"
	const regName = "-._~!$&'()*+;="
	for c := range 256 {
		b := byte(c)
		alnum := '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if alnum || contains(tchar, b) {
			t[c] |= classToken
		}
		// RFC 3986 allows less. What it forbids and browsers send nevertheless ("|",
		// "[", "{", …) nobody reads in two ways, except a backslash in the path, which
		// some take for a slash.
		if b > ' ' && b < 0x7f && b != '#' {
			t[c] |= classQuery
			if b != '\\' && b != '%' {
				t[c] |= classPath
			}
		}
		if alnum || contains(regName, b) {
			t[c] |= classRegName
		}
	}
	return t
}()

func contains(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

// all reports whether every byte of b is of the class; true for none.
func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

// tokenLen returns the length of the token that b begins with.
func tokenLen(b []byte) int {
	for i, c := range b {
		if classes[c]&classToken == 0 {
			return i
		}
	}
	return len(b)
}

// quotedLen returns the length of the quoted-string that b begins with (RFC 9110
// §5.6.4), 0 when it is none.
func quotedLen(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i == len(b) || !text(b[i:i+1]) {
				return 0
			}
		case !text(b[i : i+1]):
			return 0
		}
	}
	return 0
}

// text reports whether b is free of control bytes other than HTAB, which is what a
// field value, a reason phrase and a chunk extension may hold. Eight bytes at a time.
func text(b []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		// A top bit is set where the byte is below 0x20 or is 0x7f (and is not
		// itself above 0x7f); the borrow of a lower byte can only add, never hide.
		low := (w - ones*0x20) &^ w & tops
		del := w ^ ones*0x7f
		del = (del - ones) &^ del & tops
		if hit := low | del; hit != 0 {
			// Look at each suspect: tabs are fine.
			for ; hit != 0; hit &= hit - 1 {
				if c := b[bits.TrailingZeros64(hit)>>3]; c < ' ' && c != '\t' || c == 0x7f {
					return false
				}
			}
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trimLeft removes optional whitespace (SP, HTAB) at the start.
func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// trim removes optional whitespace (SP, HTAB) at both ends.
func trim(b []byte) []byte {
	b = trimLeft(b)
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold reports whether b is s without regard to ASCII case. s is lower case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// equalClaim is equalFold for which an underscore is a hyphen.
func equalClaim(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		c := b[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// sameFold reports whether a and b are equal without regard to ASCII case.
func sameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// nextElement cuts the first element off a comma-separated list. Empty elements
// are skipped, as RFC 9110 §5.6.1 wants; ok is false at the end.
func nextElement(list []byte) (element, rest []byte, ok bool) {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != ',' {
			i++
		}
		element = trim(list[:i])
		rest = list[min(i+1, len(list)):]
		if len(element) > 0 {
			return element, rest, true
		}
		list = rest
	}
	return nil, nil, false
}

// parseLength reads a Content-Length: digits only, below 2⁶³.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n < 1<<63
}
