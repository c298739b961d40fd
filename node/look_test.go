package node

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func TestTheSidecarsUserIsWhatTheHostCallsIt(t *testing.T) {
	const all = "         0          0 4294967295\n"
	for _, c := range []struct {
		table string
		own   bool
		want  uint32
		err   error
	}{
		{all, false, 15000, nil},
		{"         0     196608      65536\n", false, 211608, nil},
		{"         0     196608      65536\n", true, 211608, nil},
		{all, true, 0, errNotYet}, // the runtime has not entered the pod's user namespace
		{"0 1000 1\n1 100000 65535\n", true, 114999, nil},
	} {
		got, err := outside(c.table, 15000, c.own)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %d, %v, want %d, %v", c.table, got, err, c.want, c.err)
		}
	}
	if _, err := outside("0 100000 1000\n", 15000, true); err == nil {
		t.Error("a user that the namespace does not have is found")
	}
}

func TestTheNodesAddressesAreReadFromTheKernelsTables(t *testing.T) {
	const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.42.0.0/24 2 0 2
        +-- 10.42.0.0/30 2 0 2
           |-- 10.42.0.0
              /24 link UNICAST
           |-- 10.42.0.1
              /32 host LOCAL
        |-- 10.42.0.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
           |-- 10.42.0.1
              /32 host LOCAL
     |-- 192.0.2.7
        /32 host LOCAL
`
	want := []netip.Addr{netip.MustParseAddr("10.42.0.1"), netip.MustParseAddr("192.0.2.7")}
	if got := localAddresses(trie); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	const inet6 = "00000000000000000000000000000001 01 80 10 80       lo\nfd000010004200000000000000000001 05 40 00 80     cni0\n"
	if got := interfaceAddresses(inet6); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("fd00:10:42::1")}) {
		t.Errorf("%v", got)
	}
}
