package interception

import (
	"net/netip"
	"slices"
	"testing"
)

func TestTheGatewaysOfAPodAreThoseOfItsDefaultRoutes(t *testing.T) {
	const v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t01002A0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t00002A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	if got := gateways4(v4); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.42.0.1")}) {
		t.Errorf("%v", got)
	}
	const v6 = "fd000010004200000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000010004200000000000000000001 00000400 00000001 00000000 00000003 eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n"
	if got := gateways6(v6); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("fd00:10:42::1")}) {
		t.Errorf("%v", got)
	}
}
