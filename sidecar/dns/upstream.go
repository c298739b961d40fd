package dns

import (
	"errors"
	"net/netip"
	"slices"
)

// errNoServers says that there is nobody to forward to.
var errNoServers = errors.New("resolv.conf names no server but ourselves")

// servers returns who a question is forwarded to, in the order in which they are asked.
func (s *Server) servers() []netip.AddrPort {
	all := slices.DeleteFunc(slices.Clone(s.cfg.ResolvConf.load().servers), s.isOurs)
	return startingWith(all, s.preferred.Load())
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
