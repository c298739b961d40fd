package limit

import (
	"net"
	"net/netip"
)

// Source is what strangers are counted under: an IPv4 address, or the /64 of an IPv6
// one. The zero Source is of whatever has no IP address.
type Source struct{ prefix netip.Prefix }

// SourceOf returns the source of a peer's address.
func SourceOf(addr net.Addr) Source {
	var ip netip.Addr
	switch a := addr.(type) {
	case *net.TCPAddr:
		ip = a.AddrPort().Addr()
	case *net.UDPAddr:
		ip = a.AddrPort().Addr()
	case nil:
		return Source{}
	default:
		ap, err := netip.ParseAddrPort(addr.String())
		if err != nil {
			return Source{}
		}
		ip = ap.Addr()
	}
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // the zero Addr gives the zero Prefix
	return Source{p}
}

// String is the prefix, for logs.
func (s Source) String() string {
	if !s.prefix.IsValid() {
		return "unknown"
	}
	return s.prefix.String()
}
