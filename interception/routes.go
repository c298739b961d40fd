package interception

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// gateways4 reads the gateways of default routes from a /proc/net/route, of which each line
// is
//
//	eth0 00000000 0100000A 0003 …   (interface, destination, gateway, flags; the machine's byte order)
func gateways4(table string) (all []netip.Addr) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		n, err := strconv.ParseUint(f[2], 16, 32)
		if err != nil || n == 0 {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		all = append(all, netip.AddrFrom4(b))
	}
	return all
}

// gateways6 is gateways4 for /proc/net/ipv6_route:
//
//	destination 00 source 00 gateway …   (addresses as 32 hex digits, lengths as two)
func gateways6(table string) (all []netip.Addr) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 || strings.Trim(f[0], "0") != "" || f[1] != "00" {
			continue
		}
		b, err := hex.DecodeString(f[4])
		if a, ok := netip.AddrFromSlice(b); err == nil && ok && !a.IsUnspecified() {
			all = append(all, a)
		}
	}
	return all
}
