package dns

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// slot is the number behind an address pair: 1 to slots.
type slot uint16

// slots is how many names have an address: all of 16 bits but the two that would
// be the network's and the broadcast address.
const slots = 1<<16 - 2

// errFull says that every address is in use. They are never used for another name:
// who has cached one would reach the wrong service.
var errFull = errors.New("all 65534 virtual addresses are in use: stop the sidecar and remove its file of virtual addresses")

// Prefixes returns the networks that virtual addresses are from: what has to be
// captured.
func Prefixes() []netip.Prefix {
	v4, v6 := slot(0).v4(), slot(0).v6()
	return []netip.Prefix{netip.PrefixFrom(v4, 16), netip.PrefixFrom(v6, 48)}
}

func (s slot) v4() netip.Addr {
	return netip.AddrFrom4([4]byte{240, 66, byte(s >> 8), byte(s)})
}

func (s slot) v6() netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x69, 0x73, 0x74, 0x6d, 0x75, 14: byte(s >> 8), 15: byte(s)})
}

// slotOf returns the slot of a virtual address, IPv4-mapped ones included.
func slotOf(a netip.Addr) (slot, bool) {
	if !a.IsValid() {
		return 0, false
	}
	a = a.Unmap()
	b := a.As16() // an IPv4 address is at its end
	s := slot(binary.BigEndian.Uint16(b[14:]))
	if s < 1 || s > slots {
		return 0, false
	}
	return s, a == s.v4() || a == s.v6()
}

// addresses says which name has which slot. It is pure: no lock, disk or clock.
type addresses struct {
	slots map[mesh.Destination]slot
	names map[slot]mesh.Destination
	above map[string]struct{} // the names above those of names, up to the zones, as canonical ones
}

func newAddresses() addresses {
	return addresses{slots: map[mesh.Destination]slot{}, names: map[slot]mesh.Destination{}, above: map[string]struct{}{}}
}

// of returns the slot of d, whose Port is 0, and whether it is new: then it is the
// first free one from the hash of d's name on.
func (a *addresses) of(d mesh.Destination) (s slot, fresh bool, err error) {
	if s, ok := a.slots[d]; ok {
		return s, false, nil
	}
	if len(a.slots) >= slots {
		return 0, false, errFull
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(d.Host()))
	at := h.Sum64() % slots
	for {
		s := slot(at + 1)
		if _, taken := a.names[s]; !taken {
			a.put(d, s)
			return s, true, nil
		}
		at = (at + 1) % slots
	}
}

// put gives d the slot s. It reports false, and does nothing, when either is in use.
func (a *addresses) put(d mesh.Destination, s slot) bool {
	if _, ok := a.slots[d]; ok {
		return false
	}
	if _, ok := a.names[s]; ok {
		return false
	}
	a.slots[d], a.names[s] = s, d
	for name := above(d.Host() + "."); name != meshZone; name = above(name) {
		a.above[name] = struct{}{}
	}
	if d.Cluster == "" {
		a.above[d.Service.Namespace+"."+clustersetZone] = struct{}{}
	}
	return true
}

// above returns the name above another.
func above(name string) string {
	_, name, _ = strings.Cut(name, ".")
	return name
}
