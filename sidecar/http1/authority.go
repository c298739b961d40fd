package http1

import "bytes"

// portOf returns the port of uri-host [ ":" port ] (RFC 9110 §7.2, RFC 3986 §3.2.2),
// which may be empty; ok is false for what is not one, an empty host too. Left out of the
// grammar is what readers disagree on: a comma (Host is read as a list by some), a
// zone, the IP versions to come and ports beyond 65535. Userinfo is not part of it.
func portOf(b []byte) (port []byte, ok bool) {
	end := len(b)
	if len(b) > 0 && b[0] == '[' {
		end = bytes.IndexByte(b, ']') + 1
		if end == 0 || !isIPv6(b[1:end-1]) {
			return nil, false
		}
	} else {
		if i := bytes.IndexByte(b, ':'); i >= 0 {
			end = i
		}
		if end == 0 || !isRegName(b[:end]) {
			return nil, false
		}
	}
	if end == len(b) {
		return nil, true
	}
	port = b[end+1:]
	return port, b[end] == ':' && isPort(port)
}

func isAuthority(b []byte) bool {
	_, ok := portOf(b)
	return ok
}

// isRegName reports whether b is a reg-name; an IPv4 address is one, too.
func isRegName(b []byte) bool {
	for i, c := range b {
		if classes[c]&classRegName == 0 && !isEscape(b[i:]) {
			return false
		}
	}
	return true
}

// isEscape reports whether b begins with "%" and two hexadecimal digits.
func isEscape(b []byte) bool {
	return len(b) > 2 && b[0] == '%' && isHex(b[1]) && isHex(b[2])
}

// isPort reports whether b is empty or a number below 65536.
func isPort(b []byte) bool {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return true
}

// isIPv6 reports whether b is an IPv6 address without a zone. net/netip would copy it.
func isIPv6(b []byte) bool {
	groups, elided := 0, false
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		elided, b = true, b[2:]
	}
	for len(b) > 0 {
		n := 0
		for n < len(b) && isHex(b[n]) {
			n++
		}
		switch {
		case n < len(b) && b[n] == '.':
			return isIPv4(b) && groups <= 6 && elided == (groups < 6)
		case n == 0 || n > 4 || groups == 8:
			return false
		}
		groups++
		if b = b[n:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return false
		}
		if b = b[1:]; b[0] == ':' {
			if elided {
				return false
			}
			elided, b = true, b[1:]
		}
	}
	return elided == (groups < 8)
}

// isIPv4 reports whether b is four decimal octets without leading zeros.
func isIPv4(b []byte) bool {
	for octet := range 4 {
		if octet > 0 {
			if len(b) == 0 || b[0] != '.' {
				return false
			}
			b = b[1:]
		}
		n, value := 0, 0
		for n < len(b) && n < 4 && '0' <= b[n] && b[n] <= '9' {
			value = value*10 + int(b[n]-'0')
			n++
		}
		if n == 0 || value > 255 || n > 1 && b[0] == '0' {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

func isHex(c byte) bool {
	_, ok := unhex(c)
	return ok
}
