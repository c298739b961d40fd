package interception

import (
	"encoding/binary"
	"net/netip"
)

// endpointOf is a as the maps hold it: IPv4 as IPv4-mapped IPv6.
func endpointOf(a netip.AddrPort) bpfEndpoint {
	return bpfEndpoint{Ip: words(a.Addr()), Port: a.Port()}
}

// addrPort is the reverse of endpointOf; IPv4-mapped addresses come back as IPv4.
func (e bpfEndpoint) addrPort() netip.AddrPort {
	var b [16]byte
	for i, w := range e.Ip {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), e.Port)
}

// prefixOf is p as the LPM map holds it.
func prefixOf(p netip.Prefix) bpfPrefix {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return bpfPrefix{Bits: uint32(bits), Ip: words(p.Masked().Addr())}
}

// words is an address in network byte order, as the hooks read it.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}
