package connect

import "encoding/binary"

// AppendPlain appends r to b for a client that speaks plain HTTP to a port that does not,
// in words that it reads: said are its first bytes. To HTTP/1.1 that is a response, to
// HTTP/2 a GOAWAY with the reason (RFC 9113 §6.8); to who speaks neither, nothing.
func (r *Refusal) AppendPlain(b, said []byte, proxy string) []byte {
	const methodLimit = 20
	for i, c := range said[:min(len(said), methodLimit)] {
		switch {
		case c == ' ' && i > 0 && string(said[:i]) == "PRI":
			return r.appendGoAway(b)
		case c == ' ' && i > 0:
			return r.Append(b, proxy)
		case c < 'A' || c > 'Z':
			return b
		}
	}
	return b
}

// appendGoAway appends SETTINGS, without which nothing of HTTP/2 is believed, and GOAWAY.
func (r *Refusal) appendGoAway(b []byte) []byte {
	const (
		settings           = 4
		goAway             = 7
		inadequateSecurity = 0xc
		fixed              = 8 // bytes of GOAWAY before the reason: the last stream, the code
	)
	b = append(b, 0, 0, 0, settings, 0, 0, 0, 0, 0)
	n := fixed + len(r.Details)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), goAway, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(b, inadequateSecurity), r.Details...)
}
