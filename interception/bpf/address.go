package bpf

import (
	"encoding/binary"
	"net/netip"
)

// EndpointOf is a as the maps hold it: IPv4 as IPv4-mapped IPv6.
func EndpointOf(a netip.AddrPort) KernelEndpoint {
	return KernelEndpoint{Ip: words(a.Addr()), Port: a.Port()}
}

// AddrPort is the reverse of EndpointOf; IPv4-mapped addresses come back as IPv4.
func (e KernelEndpoint) AddrPort() netip.AddrPort {
	var b [16]byte
	for i, w := range e.Ip {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), e.Port)
}

// PrefixOf is p as the LPM map holds it.
func PrefixOf(p netip.Prefix) KernelPrefix {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return KernelPrefix{Bits: uint32(bits), Ip: words(p.Masked().Addr())}
}

// words is an address in network byte order, as the hooks read it.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}
