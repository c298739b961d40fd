package forward

import "encoding/binary"

// The types of TLS records (RFC 8446 §5.1). A change of ciphers proves
// nothing, nor does a handshake in the clear: an endpoint reads on behind them.
const (
	recordChangeCipherSpec = 20
	recordLast             = 23 // the greatest, and that of encrypted ones
)

const (
	recordHead   = 5             // bytes in front of a record: type, version and length
	maxEncrypted = 16<<10 + 1<<8 // bytes of an encrypted record
)

// records follows the TLS records that a client sends, however they are cut.
type records struct {
	head   [recordHead]byte
	have   int  // of head
	left   int  // of the record behind it
	counts bool // the record began when it could be a proof
}

// add takes the next bytes, and reports whether a record has ended with them which began when
// an answer was there and which an endpoint judges at once. What is no record is judged by
// its head.
func (r *records) add(p []byte, answered bool) bool {
	for len(p) > 0 {
		if r.have < recordHead {
			if r.have == 0 {
				r.counts = answered
			}
			n := copy(r.head[r.have:], p)
			r.have, p = r.have+n, p[n:]
			if r.have < recordHead {
				return false
			}
			r.left = int(binary.BigEndian.Uint16(r.head[3:]))
			if r.head[0] < recordChangeCipherSpec || r.head[0] > recordLast || r.left > maxEncrypted {
				return r.counts
			}
		}
		n := min(r.left, len(p))
		r.left, p = r.left-n, p[n:]
		if r.left > 0 {
			return false
		}
		r.have = 0
		if r.counts && r.head[0] != recordChangeCipherSpec && r.head[0] != recordHandshake {
			return true
		}
	}
	return false
}
