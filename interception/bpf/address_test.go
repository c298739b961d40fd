package bpf

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestAddressesAreWhatTheyWereAfterTheMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "v4") {
			b = b[:4]
		}
		ip, _ := netip.AddrFromSlice(b)
		want := netip.AddrPortFrom(ip.Unmap(), rapid.Uint16().Draw(t, "port"))
		if got := EndpointOf(want).AddrPort(); got != want {
			t.Fatalf("%s became %s", want, got)
		}
	})
}

func TestAnIPv4PrefixIsBelowTheMappedOnes(t *testing.T) {
	got := PrefixOf(netip.MustParsePrefix("240.66.3.4/16"))
	if want := PrefixOf(netip.MustParsePrefix("::ffff:240.66.0.0/112")); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
