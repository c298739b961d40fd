// Package hostport reads addresses as people write them: the port may be left
// out, IPv6 may stand with or without brackets, and what cannot be an address
// is told with a reason.
package hostport

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Addr is a host and port as users write them.
type Addr struct {
	Host string // name or IP without brackets; empty: not written
	Port int    // -1: not written
}

// Parse reads host, host:port, :port, and IPv6 hosts with or without
// brackets. The error says what is wrong but not what to write instead.
func Parse(s string) (Addr, error) {
	if s == "" {
		return Addr{}, fmt.Errorf("is empty")
	}
	if _, err := strconv.Atoi(s); err == nil {
		return Addr{}, fmt.Errorf("%q is only a number", s)
	}
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		if before, port, ok := ambiguous(s); ok {
			return Addr{}, fmt.Errorf("%q can be an address alone as well as one with a port: write [%s], or [%s]:%s", s, s, before, port)
		}
		return Addr{ip.String(), -1}, nil
	}
	host, port, found := s, "", false
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port, found = s[:i], s[i+1:], true
		if h, ok := strings.CutPrefix(host, "["); ok {
			host, ok = strings.CutSuffix(h, "]")
			if ip, err := netip.ParseAddr(host); !ok || err != nil || !ip.Is6() {
				return Addr{}, fmt.Errorf("%q is no address: the brackets hold no IPv6 address", s)
			}
		} else if host != "" && !isHost(host) {
			return Addr{}, fmt.Errorf("%q is no address", s)
		}
	} else if !isHost(host) {
		return Addr{}, fmt.Errorf("%q is no address", s)
	}
	if !found {
		return Addr{host, -1}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Addr{}, fmt.Errorf("%q has no port from 1 to 65535 behind its colon", s)
	}
	return Addr{host, int(n)}, nil
}

// ambiguous splits an IPv6 address without brackets that reads as a shorter one
// with a port behind it, such as ::1:7500.
func ambiguous(s string) (before, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	before, port = s[:i], s[i+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", false
	}
	ip, err := netip.ParseAddr(before)
	return before, port, err == nil && ip.Is6()
}

// isHost reports whether s is an IPv4 address or can be a DNS name.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	digitsAndDots := true
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			digit := '0' <= c && c <= '9'
			if !digit && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && c != '-' && c != '_' {
				return false
			}
			digitsAndDots = digitsAndDots && digit
		}
	}
	if digitsAndDots { // nobody's name, perhaps somebody's misspelled address
		_, err := netip.ParseAddr(s)
		return err == nil
	}
	return true
}

// String returns host:port, which net.Dial and net.Listen take.
func (a Addr) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// Everywhere reports whether listening at a is listening on every interface.
func (a Addr) Everywhere() bool {
	ip, err := netip.ParseAddr(a.Host)
	return a.Host == "" || err == nil && ip.IsUnspecified()
}

// Overlaps reports whether only one of a and b can be listened on.
func (a Addr) Overlaps(b Addr) bool {
	if a.Port != b.Port || a.Port == 0 {
		return false
	}
	return a.Everywhere() || b.Everywhere() || a.loopbackAsIP() == b.loopbackAsIP()
}

// OnThisHost reports whether a is on a loopback address.
func (a Addr) OnThisHost() bool {
	ip, err := netip.ParseAddr(a.loopbackAsIP())
	return err == nil && ip.IsLoopback()
}

func (a Addr) loopbackAsIP() string {
	if strings.EqualFold(a.Host, "localhost") {
		return "127.0.0.1"
	}
	return strings.ToLower(a.Host)
}

// CheckName returns an error unless s is a name of one host or instance: 1 to
// 253 letters, digits and inner hyphens, dots and underscores. Such a name can
// stand in HTTP headers and in lists that are separated by commas or slashes.
func CheckName(s string) error {
	if s == "" || len(s) > 253 {
		return fmt.Errorf("must have 1 to 253 characters")
	}
	for i, b := range []byte(s) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case (b == '-' || b == '.' || b == '_') && i > 0 && i < len(s)-1:
		default:
			return fmt.Errorf("%q: use letters, digits and inner hyphens, dots and underscores", s)
		}
	}
	return nil
}
