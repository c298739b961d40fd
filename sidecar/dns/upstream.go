package dns

import (
	"errors"
	"net"
	"net/netip"
	"slices"
)

// errNoServers says that there is nobody to forward to.
var errNoServers = errors.New("resolv.conf names no server but ourselves, and no other was asked")

// errTooMany says that a client asks on without waiting for answers.
var errTooMany = errors.New("too many questions wait for their answers on one connection")

// servers returns who a question is forwarded to, in the order in which they are asked:
// the server that the program asked, and nobody else, or those of resolv.conf, if that
// is one of them or not known. Those are equals to the program's resolver, of which some
// ask all of them from one socket: then only the last is known.
func (s *Server) servers(original netip.AddrPort) []netip.AddrPort {
	all := slices.DeleteFunc(slices.Clone(s.cfg.ResolvConf.load().servers), s.isOurs)
	if !original.IsValid() || s.isOurs(original) {
		return startingWith(all, s.preferred.Load())
	}
	for _, a := range all {
		// The kernel's hooks do not see the zone of a link-local address.
		if a.Port() == original.Port() && a.Addr().WithZone("") == original.Addr().Unmap().WithZone("") {
			return startingWith(all, a)
		}
	}
	return []netip.AddrPort{original}
}

// originalServer returns the server that was asked with a datagram, or nothing.
func (s *Server) originalServer(at, from netip.AddrPort) (a netip.AddrPort) {
	if s.cfg.OriginalServer != nil {
		a, _ = s.cfg.OriginalServer(at, from)
	}
	return a
}

// originalDestination returns the server that was asked over a connection, or nothing.
func (s *Server) originalDestination(c net.Conn) (a netip.AddrPort) {
	if s.cfg.OriginalDestination != nil {
		a, _ = s.cfg.OriginalDestination(c)
	}
	return a
}

// isOurs reports whether we would ask ourselves there.
func (s *Server) isOurs(a netip.AddrPort) bool {
	return slices.Contains(s.cfg.Listen, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// startingWith turns all so that first is the first, if it is there.
func startingWith(all []netip.AddrPort, first netip.AddrPort) []netip.AddrPort {
	at := max(slices.Index(all, first), 0)
	return slices.Concat(all[at:], all[:at])
}
