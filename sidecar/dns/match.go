package dns

import (
	"bytes"
	"encoding/binary"

	"github.com/miekg/dns"
)

// asked is what an answer repeats of its question: ID, opcode and, if it has exactly one,
// the question, whose name's case does not matter. Who is not on the path between us
// and the server has to guess all of it, and the port (RFC 5452).
type asked string

// askedBy returns what a message asks, or, of an answer, what it answers; empty: nothing
// that can be read.
func askedBy(packet []byte) asked {
	if len(packet) < headerSize {
		return ""
	}
	a := []byte{packet[0], packet[1], packet[2] & opcodeBits}
	if binary.BigEndian.Uint16(packet[4:]) == 1 {
		_, end, err := dns.UnpackDomainName(packet, headerSize)
		if err != nil || end+4 > len(packet) || isCompressed(packet[headerSize:end]) {
			return ""
		}
		a = append(a, bytes.ToLower(packet[headerSize:end])...) // lengths of labels are no letters
		a = append(a, packet[end:end+4]...)
	}
	return asked(a)
}

// isTransfer reports whether many messages answer the question (RFC 5936).
func (a asked) isTransfer() bool {
	if len(a) < 4 {
		return false
	}
	t := binary.BigEndian.Uint16([]byte(a[len(a)-4:]))
	return t == dns.TypeAXFR || t == dns.TypeIXFR
}

// isAnswer reports whether a message answers the question a.
func (a asked) isAnswer(packet []byte) bool {
	if len(packet) < headerSize || packet[2]&flagResponse == 0 || len(a) < 3 {
		return false
	}
	if askedBy(packet) == a {
		return true
	}
	if packet[0] != a[0] || packet[1] != a[1] || packet[2]&opcodeBits != a[2] || binary.BigEndian.Uint16(packet[4:]) != 0 {
		return false
	}
	// It repeats no question: an update's answer may not, nor do a transfer's later
	// messages, and a server that could not read ours cannot.
	switch packet[3] & rcodeBits {
	case dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused:
		return binary.BigEndian.Uint16(packet[6:]) == 0
	}
	return a[2] != 0 || a.isTransfer()
}
