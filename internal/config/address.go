package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// address is a host and port as users write them.
type address struct {
	host string // empty: not written
	port int    // -1: not written
}

// parseAddress reads host, host:port, :port, and IPv6 hosts with or without
// brackets. The error says what is wrong but not what to write instead.
func parseAddress(s string) (address, error) {
	if s == "" {
		return address{}, fmt.Errorf("is empty")
	}
	if _, err := strconv.Atoi(s); err == nil {
		return address{}, fmt.Errorf("%q is only a number", s)
	}
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return address{ip.String(), -1}, nil
	}
	host, port, found := s, "", false
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port, found = s[:i], s[i+1:], true
		if h, ok := strings.CutPrefix(host, "["); ok {
			host, ok = strings.CutSuffix(h, "]")
			if ip, err := netip.ParseAddr(host); !ok || err != nil || !ip.Is6() {
				return address{}, fmt.Errorf("%q is no address: the brackets hold no IPv6 address", s)
			}
		} else if host != "" && !isHost(host) {
			return address{}, fmt.Errorf("%q is no address", s)
		}
	} else if !isHost(host) {
		return address{}, fmt.Errorf("%q is no address", s)
	}
	if !found {
		return address{host, -1}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return address{}, fmt.Errorf("%q has no port from 1 to 65535 behind its colon", s)
	}
	return address{host, int(n)}, nil
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

func (a address) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }

// everywhere reports whether listening at a is listening on every interface.
func (a address) everywhere() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "" || err == nil && ip.IsUnspecified()
}

// overlaps reports whether only one of a and b can be listened on.
func (a address) overlaps(b address) bool {
	if a.port != b.port || a.port == 0 {
		return false
	}
	return a.everywhere() || b.everywhere() || a.loopbackAsIP() == b.loopbackAsIP()
}

// onThisHost reports whether a is on a loopback address.
func (a address) onThisHost() bool {
	ip, err := netip.ParseAddr(a.loopbackAsIP())
	return err == nil && ip.IsLoopback()
}

func (a address) loopbackAsIP() string {
	if strings.EqualFold(a.host, "localhost") {
		return "127.0.0.1"
	}
	return strings.ToLower(a.host)
}
