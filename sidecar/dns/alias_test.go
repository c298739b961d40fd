package dns

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// aliasing is a server with aliases by their names. It knows nothing of where they end.
func aliasing(t *testing.T, aliases map[string]string) netip.AddrPort {
	return outside(t, func(_ string, packet []byte) [][]byte {
		q, r := new(dns.Msg), new(dns.Msg)
		if err := q.Unpack(packet); err != nil {
			t.Error(err)
			return nil
		}
		r.SetRcode(q, dns.RcodeNameError)
		r.Compress, r.AuthenticatedData = true, true
		for name := dns.CanonicalName(q.Question[0].Name); aliases[name] != "" && len(r.Answer) < 20; name = dns.CanonicalName(aliases[name]) {
			hdr := dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 60}
			r.Answer = append([]dns.RR{&dns.CNAME{Hdr: hdr, Target: aliases[name]}}, r.Answer...) // in no order
		}
		b, err := r.Pack()
		if err != nil {
			t.Error(err)
		}
		return [][]byte{b}
	})
}

func TestAnAliasOfAnotherZoneForAServiceIsFollowed(t *testing.T) {
	up := aliasing(t, map[string]string{
		"www.example.com.":   "shop.example.net.",
		"shop.example.net.":  "Orders.shop.mesh.",
		"old.example.com.":   "orders.shop.svc.clusterset.local.",
		"gone.example.com.":  "nobody.shop.mesh.",
		"loop.example.com.":  "mesh.example.com.",
		"mesh.example.com.":  "loop.example.com.",
		"other.example.com.": "www.example.org.",
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	v4, v6, _ := s.cfg.Table.Of(host(t, "orders.shop.mesh"))
	chain := "www.example.com. 60 IN CNAME shop.example.net.; shop.example.net. 60 IN CNAME Orders.shop.mesh.; Orders.shop.mesh. "
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string
	}{
		{"www.example.com", dns.TypeA, dns.RcodeSuccess, chain + "A " + v4.String()},
		{"www.example.com", dns.TypeAAAA, dns.RcodeSuccess, chain + "AAAA " + v6.String()},
		{"shop.example.net", dns.TypeA, dns.RcodeSuccess, "shop.example.net. 60 IN CNAME Orders.shop.mesh.; Orders.shop.mesh. A " + v4.String()},
		{"old.example.com", dns.TypeA, dns.RcodeSuccess, fmt.Sprintf("old.example.com. 60 IN CNAME orders.shop.svc.clusterset.local.; orders.shop.svc.clusterset.local. A %s", v4)},
		{"gone.example.com", dns.TypeA, dns.RcodeNameError, "gone.example.com. 60 IN CNAME nobody.shop.mesh."},
	} {
		for _, network := range []string{"udp", "tcp"} {
			r := ask(t, s, network, question(c.name, c.qtype))
			if texts(r.Answer) != c.want || r.Rcode != c.rcode || r.AuthenticatedData || (r.Rcode == dns.RcodeNameError) != (len(r.Ns) == 1) {
				t.Errorf("%s %s:\n%s\nwant %s", network, c.name, r, c.want)
			}
		}
	}
	for name, qtype := range map[string]uint16{
		"shop.example.net":  dns.TypeMX, // not an address
		"other.example.com": dns.TypeA,
		"loop.example.com":  dns.TypeA,
	} {
		packet, _ := question(name, qtype).Pack()
		want := talk(t, up, "udp", packet)[0]
		if got := talk(t, addrOf(s), "udp", packet)[0]; !bytes.Equal(got, want) {
			t.Errorf("%s is\n%x, want what the server says\n%x", name, got, want)
		}
	}
}

func TestAnAliasForAServiceThatIsNotKnownYetIsNoAnswer(t *testing.T) {
	up := aliasing(t, map[string]string{"www.example.com.": "orders.shop.mesh."})
	s := serve(t, shop(), func(c *Config) {
		c.ResolvConf = naming(up)
		c.Ports = unknown
	})
	if r := ask(t, s, "udp", question("www.example.com", dns.TypeA)); r.Rcode != dns.RcodeServerFailure || len(r.Answer) != 0 {
		t.Errorf("%s", r)
	}
}

// FuzzFollowAlias hands arbitrary answers of servers to what looks for aliases.
func FuzzFollowAlias(f *testing.F) {
	q := question("www.example.com", dns.TypeA)
	packet, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	for _, target := range []string{"orders.shop.mesh.", "nobody.shop.mesh.", "shop.svc.clusterset.local.", "www.example.com."} {
		r := new(dns.Msg).SetReply(q)
		r.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "www.example.com.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: target}}
		b, err := r.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:15053")}, Ports: shop().ports, Table: open(f, "")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		got := s.followAlias(t.Context(), packet, reply, true)
		if bytes.Equal(got, reply) {
			return
		}
		r := new(dns.Msg)
		if err := r.Unpack(got); err != nil || len(got) > dns.MinMsgSize {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}
