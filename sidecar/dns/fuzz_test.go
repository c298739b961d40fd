package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzQuestion hands arbitrary packets to everything that looks at them.
func FuzzQuestion(f *testing.F) {
	for _, name := range []string{"orders.shop.mesh", "_http._tcp.orders.shop.mesh", "nobody.shop.mesh", "mesh", "example.com", "orders.shop.mesh.corp.example", "shop.mesh",
		"52.18.66.240.in-addr.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.5.7.d.6.4.7.3.7.9.6.d.f.ip6.arpa"} {
		for _, t := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeANY} {
			q := question(name, t)
			q.SetEdns0(1232, true)
			b, err := q.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}) // a name that points at itself
	f.Add([]byte("0000\x00\x01000000\x06000000\x040000\x04mesh\x000"))      // a mesh name without a type
	f.Add([]byte("0000\x00\x01000000\x06orders\x04shop\x04mesh\xc0\x040000"))
	search := []string{"corp.example.", "mesh."}
	c := shop()
	s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:15053")}, Ports: c.ports, Table: open(f, "")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		c.asked = nil
		v, zone := classify(packet, search)
		switch v {
		case malformed:
			if b := formerr(packet); len(b) != headerSize || b[0] != packet[0] || b[2]&flagResponse == 0 {
				t.Fatalf("FORMERR %x", b)
			}
		case ours:
			for _, udp := range []bool{true, false} {
				b := s.answer(t.Context(), packet, zone, udp)
				if b == nil {
					t.Fatal("no answer for a name of ours")
				}
				r := new(dns.Msg)
				if err := r.Unpack(b); err != nil {
					t.Fatalf("the answer does not unpack: %v", err)
				}
				if !r.Response || r.Id != binary.BigEndian.Uint16(packet) || udp && len(b) > maxUDPAnswer {
					t.Fatalf("%d bytes\n%s", len(b), r)
				}
			}
		case forward:
			if b := servfail(packet); b != nil && (b[0] != packet[0] || b[2]&flagResponse == 0) {
				t.Fatalf("refusal %x", b)
			}
		}
	})
}

// FuzzIsAnswer hands arbitrary messages of servers to what decides whether they answer.
func FuzzIsAnswer(f *testing.F) {
	q := question("Example.com", dns.TypeA)
	q.Id = 7
	packet, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	answer, err := new(dns.Msg).SetReply(q).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet)
	f.Add(answer)
	f.Add([]byte{0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if !askedBy(packet).isAnswer(b) {
			return
		}
		r := new(dns.Msg)
		if err := r.Unpack(b[:min(questionEnd(b), len(b))]); len(r.Question) == 0 && b[5] != 0 {
			t.Fatalf("%x is an answer: %v", b, err)
		}
		if r.Id != 7 || !r.Response || len(r.Question) > 0 && !strings.EqualFold(r.Question[0].Name, q.Question[0].Name) {
			t.Fatalf("%x is an answer\n%s", b, r)
		}
	})
}
