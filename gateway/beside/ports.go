package beside

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/internal/beside"
)

// portsOf returns what the sidecar of an identity serves that is at any of the addresses:
// those of one pod. The program is called at the first of them, IPv4's first. More than a
// sidecar can be told is left out.
func portsOf(pods kubernetes.Pods, identity string, at []netip.Addr) *beside.Ports {
	m := &beside.Ports{}
	for _, a := range at {
		pod := pods[a]
		if pod == nil || pod.Identity != identity {
			continue
		}
		for _, p := range pod.Serves {
			if n := len(m.Ports); n > 0 && m.Ports[n-1].Service == p.Service.String() && m.Ports[n-1].Port == uint32(p.Port) {
				continue // it moves from one target to another
			}
			if len(m.Ports) == beside.MaxPorts {
				break
			}
			m.Ports = append(m.Ports, &beside.Port{
				Service: p.Service.String(), Port: uint32(p.Port), Protocol: string(p.Protocol), Target: netip.AddrPortFrom(a, p.Target).String(),
			})
		}
		return m
	}
	return m
}

// placesOf returns the addresses at which a sidecar is, sorted: those that it says, and the
// one from which it calls, unless that is translated on the way.
func placesOf(m *beside.Place, from netip.Addr) ([]netip.Addr, error) {
	if n := len(m.GetAddresses()); n > beside.MaxAddresses {
		return nil, fmt.Errorf("%d addresses are more than %d", n, beside.MaxAddresses)
	}
	all := []netip.Addr{from}
	for _, text := range m.GetAddresses() {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("address %q is none", text)
		}
		all = append(all, a.Unmap())
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}
