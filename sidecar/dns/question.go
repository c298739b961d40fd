package dns

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The zones that are answered here, as canonical names.
const (
	meshZone       = mesh.Domain + "."
	clustersetZone = "svc.clusterset.local."
	reverse4Zone   = "66.240.in-addr.arpa."
	reverse6Zone   = "5.7.d.6.4.7.3.7.9.6.d.f.ip6.arpa."
)

// headerSize is the length of a DNS header in bytes (RFC 1035 §4.1.1).
const headerSize = 12

// flags of the third and the fourth byte of a header.
const (
	flagResponse         = 0x80
	opcodeBits           = 0x78
	flagRecursionDesired = 0x01
	rcodeBits            = 0x0f
)

// verdict is what becomes of a message from a client.
type verdict uint8

const (
	drop      verdict = iota // no question at all: an answer to it could be the start of a loop
	malformed                // nobody can say what is asked: FORMERR
	forward                  // not ours to understand
	ours                     // its only question is for a name in a zone of ours
	perhaps                  // it is for a service by its name in Kubernetes: ours if that is in the mesh
)

// classify looks at no more of a message than it needs. The zone is that of a name that
// is ours. Search are the domains that a program's resolver appends to names.
func classify(packet []byte, search []string) (v verdict, zone string) {
	if len(packet) < headerSize || packet[2]&flagResponse != 0 {
		return drop, ""
	}
	if n := binary.BigEndian.Uint16(packet[4:]); n != 1 {
		if n > 1 && packet[2]&opcodeBits == 0 { // RFC 9619
			return malformed, ""
		}
		return forward, ""
	}
	name, end, err := dns.UnpackDomainName(packet, headerSize)
	if err != nil || end+4 > len(packet) || isCompressed(packet[headerSize:end]) {
		return malformed, ""
	}
	if zone = zoneOf(dns.CanonicalName(name), search); zone == "" {
		return forward, ""
	}
	return ours, zone
}

// isCompressed reports whether a sound name on the wire leans on other bytes (RFC
// 1035 §4.1.4). The first name of a message has none to lean on.
func isCompressed(name []byte) bool {
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		if name[at]&0xc0 != 0 {
			return true
		}
	}
	return false
}

// zoneOf returns the zone of ours that a canonical name is in, or nothing. A mesh name
// with a search domain behind it is in one that is empty: mesh.corp.example.
func zoneOf(name string, search []string) string {
	for _, z := range [...]string{meshZone, clustersetZone, reverse4Zone, reverse6Zone} {
		if isWithin(name, z) {
			return z
		}
	}
	for _, domain := range search {
		if !isWithin(name, domain) || name == domain {
			continue
		}
		// Fewer labels may be a host of that domain: mesh.corp.example, www.mesh.corp.example.
		own := strings.TrimSuffix(name, domain)
		if isWithin(own, meshZone) && dns.CountLabel(own) >= 3 {
			return meshZone + domain
		}
		if isWithin(own, clustersetZone) && own != clustersetZone {
			return clustersetZone + domain
		}
	}
	return ""
}

// isWithin reports whether a canonical name is that of a zone or below it.
func isWithin(name, zone string) bool {
	rest, ok := strings.CutSuffix(name, zone)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// meaning is what a name in our zones stands for.
type meaning struct {
	kind        kind
	service     mesh.Destination // of kinds service, ports and instance, with Port 0
	port        string           // of kind ports: "http", "tcp" or a number; empty: the name above those
	address     netip.Addr       // of kind reverse
	first, last slot             // of kind reverseBetween: the virtual addresses whose names are below it
}

type kind uint8

const (
	nothing kind = iota // no service can have this name, nor one below it
	apex                // of the zone
	between             // names of services may be below it
	service
	ports          // _http._tcp.orders.shop.mesh
	instance       // db-0.db.shop.svc.cluster.local, which is not answered here
	reverse        // 52.18.66.240.in-addr.arpa
	reverseBetween // 18.66.240.in-addr.arpa
)

// understand parses a canonical name in a zone of zoneOf. It is pure.
func understand(name, zone string) meaning {
	rest := strings.TrimSuffix(strings.TrimSuffix(name, zone), ".")
	switch {
	case zone == reverse4Zone || zone == reverse6Zone:
		return understandReverse(name, rest, zone)
	case zone != meshZone && zone != clustersetZone: // with a search domain
		return meaning{}
	case rest == "":
		return meaning{kind: apex}
	case !strings.Contains(rest, ".") && mesh.CheckLabel(rest) == nil:
		return meaning{kind: between}
	}
	m := meaning{kind: service}
	host := name
	if strings.HasPrefix(rest, "_") {
		m.kind = ports
		first, after, _ := strings.Cut(host, ".")
		if second, last, _ := strings.Cut(after, "."); strings.HasPrefix(second, "_") {
			m.port = first[1:]
			first, after = second, last
			if m.port == "" {
				return meaning{}
			}
		}
		if first != "_tcp" { // all that the mesh carries
			return meaning{}
		}
		host = after
	}
	d, err := mesh.ParseHost(host)
	if err != nil {
		return meaning{}
	}
	m.service = d
	return m
}

// understandReverse parses the name of a PTR question: an address's bytes or
// nibbles in reverse order.
func understandReverse(name, rest, zone string) meaning {
	want, base, bits := 2, 10, 8
	if zone == reverse6Zone {
		want, base, bits = 20, 16, 4
	}
	if rest == "" {
		return meaning{kind: apex}
	}
	labels := strings.Split(rest, ".")
	if len(labels) > want {
		return meaning{}
	}
	var prefix uint64 // of the address: what labels say of it
	for _, l := range slices.Backward(labels) {
		n, err := strconv.ParseUint(l, base, bits)
		if err != nil || strconv.FormatUint(n, base) != l || prefix>>16 != 0 {
			return meaning{}
		}
		prefix = prefix<<bits | n
	}
	if missing := bits * (want - len(labels)); missing > 0 {
		m := meaning{kind: reverseBetween, last: math.MaxUint16}
		if missing < 16 {
			m.first = slot(prefix << missing)
			m.last = m.first | (1<<missing - 1)
		}
		if prefix>>max(16-missing, 0) != 0 {
			return meaning{} // more than 16 bits: not one of ours
		}
		return m
	}
	all := strings.Split(name, ".")
	var a strings.Builder
	if zone == reverse4Zone {
		a.WriteString(all[3] + "." + all[2] + "." + all[1] + "." + all[0])
	} else {
		for i := 31; i >= 0; i-- {
			a.WriteString(all[i])
			if i%4 == 0 && i > 0 {
				a.WriteByte(':')
			}
		}
	}
	address, err := netip.ParseAddr(a.String())
	if err != nil {
		return meaning{}
	}
	return meaning{kind: reverse, address: address}
}

// offers returns those of a service's ports that a label of an SRV name means.
func offers(all []mesh.RoutePort, label string) []mesh.RoutePort {
	var some []mesh.RoutePort
	for _, p := range all {
		if label == string(p.Protocol) || label == strconv.Itoa(int(p.Number)) {
			some = append(some, p)
		}
	}
	return some
}
