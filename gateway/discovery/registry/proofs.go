package registry

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// privateRanges are where a cluster's endpoints are when nothing else is said: RFC 1918,
// RFC 6598 (shared address space) and RFC 4193 (unique local).
func privateRanges() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// mayAsk reports whether a gateway may dial addr for who calls from caller. A workload must
// not have it knock at whatever the gateway reaches: link-local addresses, where
// clouds answer questions about the machine, never; loopback only for this machine's own.
func mayAsk(addr, caller netip.Addr, ranges []netip.Prefix) bool {
	addr, caller = addr.Unmap().WithZone(""), caller.Unmap()
	if addr.IsLoopback() {
		return caller.IsLoopback()
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
		return false
	}
	for _, r := range ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}

// control refuses connections to where [mayAsk] forbids, once a name is an address.
func control(caller netip.Addr, ranges []netip.Prefix) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !mayAsk(at.Addr(), caller, ranges) {
			return fmt.Errorf("%s is not among the ranges where endpoints of this cluster are", at.Addr())
		}
		return nil
	}
}
