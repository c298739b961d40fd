package forward

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// TLS record and handshake types (RFC 8446 §4, §5.1).
const (
	recordAlert          = 21
	recordHandshake      = 22
	handshakeClientHello = 1
	extensionServerName  = 0
	nameTypeHost         = 0
)

const (
	recordHeader = 5       // type, version, length
	maxRecord    = 1 << 14 // plaintext bytes in a record
	// maxHelloRecords bounds the records that a ClientHello may come in.
	// Clients send one or two; a bound keeps each look at a growing buffer short.
	maxHelloRecords = 16
)

var (
	errNotTLS    = errors.New("payload does not begin with a TLS ClientHello: a gateway carries only the mesh's TLS")
	errNoSNI     = errors.New("the TLS ClientHello names no server: send SNI _port.service.namespace.mesh")
	errHelloSize = fmt.Errorf("the TLS ClientHello is longer than %d bytes", maxHello)
	errHelloForm = errors.New("malformed TLS ClientHello")
)

// beginsHello reports whether b, the first bytes of a payload, begins a TLS
// ClientHello. While it cannot be told yet it returns false and no error.
func beginsHello(b []byte) (bool, error) {
	for i, c := range b[:min(len(b), recordHeader+1)] {
		ok := true
		switch i {
		case 0:
			ok = c == recordHandshake
		case 1:
			ok = c == 3 // all versions since SSL 3.0
		case 2:
			ok = c <= 4
		case 4:
			n := int(b[3])<<8 | int(c)
			ok = n > 0 && n <= maxRecord
		case 5:
			ok = c == handshakeClientHello
		}
		if !ok {
			return false, errNotTLS
		}
	}
	return len(b) > recordHeader, nil
}

// helloServerName returns the server name in the TLS ClientHello that b begins
// with, possibly in several records. While b does not hold all of it, done is
// false and err nil.
func helloServerName(b []byte) (name string, done bool, err error) {
	if _, err := beginsHello(b); err != nil {
		return "", false, err
	}
	var parts [maxHelloRecords][]byte // the message, as it lies in the records
	have, want := 0, -1
	var length [4]byte // type and length of the message
	for i := range parts {
		if len(b) < recordHeader {
			return "", false, nil
		}
		n := int(b[3])<<8 | int(b[4])
		if b[0] != recordHandshake || b[1] != 3 || n == 0 || n > maxRecord {
			return "", false, errHelloForm
		}
		b = b[recordHeader:]
		parts[i] = b[:min(n, len(b))]
		if have < len(length) {
			copy(length[have:], parts[i])
		}
		have += len(parts[i])
		if want < 0 && have >= len(length) {
			want = len(length) + int(length[1])<<16 + int(length[2])<<8 + int(length[3])
			if want > maxHello {
				return "", false, errHelloSize
			}
		}
		if want >= 0 && have >= want {
			msg := parts[0]
			if i > 0 {
				msg = make([]byte, 0, have)
				for _, p := range parts[:i+1] {
					msg = append(msg, p...)
				}
			}
			name, err := serverName(msg[len(length):want])
			return name, err == nil, err
		}
		if len(parts[i]) < n {
			return "", false, nil
		}
		b = b[n:]
	}
	return "", false, errHelloForm
}

// serverName reads the server_name extension (RFC 6066 §3) of a ClientHello
// body. It is as strict as crypto/tls about what it walks over.
func serverName(body []byte) (string, error) {
	s := cryptobyte.String(body)
	var session, suites, compression, extensions cryptobyte.String
	if !s.Skip(2+32) || // legacy_version, random
		!s.ReadUint8LengthPrefixed(&session) || len(session) > 32 ||
		!s.ReadUint16LengthPrefixed(&suites) || len(suites)%2 != 0 ||
		!s.ReadUint8LengthPrefixed(&compression) || len(compression) == 0 {
		return "", errHelloForm
	}
	if s.Empty() {
		return "", errNoSNI
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return "", errHelloForm
	}
	name, found := "", false
	for !extensions.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&data) {
			return "", errHelloForm
		}
		if kind != extensionServerName {
			continue
		}
		var list cryptobyte.String
		if found || !data.ReadUint16LengthPrefixed(&list) || list.Empty() || !data.Empty() {
			return "", errHelloForm
		}
		found = true
		for !list.Empty() {
			var kind uint8
			var host cryptobyte.String
			if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&host) || host.Empty() {
				return "", errHelloForm
			}
			if kind != nameTypeHost {
				continue
			}
			if name != "" {
				return "", errHelloForm // more than one name of a type
			}
			name = string(host)
		}
	}
	if name == "" {
		return "", errNoSNI
	}
	return name, nil
}
