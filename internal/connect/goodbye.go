package connect

// recordGoodbye is the type of the record that is a goodbye. TLS numbers its own
// from 20 and stops far below (RFC 9147 §4.1 leaves 64 to 255 alone).
const recordGoodbye = 0xf1

// AppendGoodbye appends a goodbye: the path goes on for as long as what runs on it,
// and its client begins nothing new. It may be written between two TLS records, to
// a client that asked for it ([Request.Goodbyes]).
func AppendGoodbye(b []byte) []byte { return append(b, recordGoodbye, 3, 3, 0, 0) }

// Records follows the TLS records of one direction of a path. The zero value stands
// in front of the first. It reads no more of them than type and length.
type Records struct {
	kind   byte
	header int // bytes of the header that have passed, 0 to 4
	high   byte
	left   int // bytes of the payload that have not
}

// Between reports whether what has passed ends with a whole record.
func (r *Records) Between() bool { return r.header == 0 && r.left == 0 }

// Pass notes that b has passed.
func (r *Records) Pass(b []byte) {
	for len(b) > 0 {
		b = b[r.next(b):]
	}
}

// Strip takes goodbyes out of b, which has just been read, and reports whether
// there was one. It returns how many bytes are left in b.
func (r *Records) Strip(b []byte) (n int, goodbye bool) {
	for at := 0; at < len(b); {
		k := r.next(b[at:])
		if r.kind == recordGoodbye {
			goodbye = true
		} else {
			if n != at {
				copy(b[n:], b[at:at+k])
			}
			n += k
		}
		at += k
	}
	return n, goodbye
}

// next lets one byte of a header, or what b has of a payload, pass, and returns how
// many bytes these are.
func (r *Records) next(b []byte) int {
	if r.left > 0 {
		n := min(r.left, len(b))
		r.left -= n
		return n
	}
	switch r.header {
	case 0:
		r.kind = b[0]
	case 3:
		r.high = b[0]
	case 4:
		r.header, r.left = -1, int(r.high)<<8|int(b[0])
	}
	r.header++
	return 1
}
