package dns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestMeshNamesAreAnsweredWithTheirVirtualAddress(t *testing.T) {
	s := serve(t, shop(), nil)
	v4, v6, _ := s.cfg.Table.Of(host(t, "orders.shop.mesh"))
	west4, _, _ := s.cfg.Table.Of(host(t, "orders.shop.west.mesh"))
	reverse4, _ := dns.ReverseAddr(v4.String())
	reverse6, _ := dns.ReverseAddr(v6.String())
	both := fmt.Sprintf("orders.shop.mesh. A %s; orders.shop.mesh. AAAA %s", v4, v6)
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string // answers; empty: none, and an SOA
		extra string
	}{
		{name: "orders.shop.mesh", qtype: dns.TypeA, want: "orders.shop.mesh. A " + v4.String()},
		{name: "ORDERS.Shop.mesh", qtype: dns.TypeA, want: "ORDERS.Shop.mesh. A " + v4.String()},
		{name: "orders.shop.mesh", qtype: dns.TypeAAAA, want: "orders.shop.mesh. AAAA " + v6.String()},
		{name: "orders.shop.mesh", qtype: dns.TypeANY, want: both},
		{name: "orders.shop.svc.clusterset.local", qtype: dns.TypeA, want: "orders.shop.svc.clusterset.local. A " + v4.String()},
		{name: "orders.shop.west.mesh", qtype: dns.TypeA, want: "orders.shop.west.mesh. A " + west4.String()},
		{name: "orders.shop.mesh", qtype: dns.TypeHTTPS},
		{name: "orders.shop.mesh", qtype: dns.TypeMX},

		{name: "orders.shop.mesh", qtype: dns.TypeSRV, extra: both,
			want: "orders.shop.mesh. SRV 0 100 80 orders.shop.mesh.; orders.shop.mesh. SRV 0 100 5432 orders.shop.mesh."},
		{name: "_http._tcp.orders.shop.mesh", qtype: dns.TypeSRV, want: "_http._tcp.orders.shop.mesh. SRV 0 100 80 orders.shop.mesh.", extra: both},
		{name: "_tcp._tcp.orders.shop.mesh", qtype: dns.TypeSRV, want: "_tcp._tcp.orders.shop.mesh. SRV 0 100 5432 orders.shop.mesh.", extra: both},
		{name: "_5432._tcp.orders.shop.mesh", qtype: dns.TypeSRV, want: "_5432._tcp.orders.shop.mesh. SRV 0 100 5432 orders.shop.mesh.", extra: both},
		{name: "_http._tcp.orders.shop.mesh", qtype: dns.TypeA},
		{name: "_tcp.orders.shop.mesh", qtype: dns.TypeSRV},
		{name: "_ldap._tcp.orders.shop.mesh", qtype: dns.TypeSRV, rcode: dns.RcodeNameError},
		{name: "_http._udp.orders.shop.mesh", qtype: dns.TypeSRV, rcode: dns.RcodeNameError},
		{name: "_._tcp.orders.shop.mesh", qtype: dns.TypeSRV, rcode: dns.RcodeNameError},

		{name: reverse4, qtype: dns.TypePTR, want: reverse4 + " PTR orders.shop.mesh."},
		{name: reverse6, qtype: dns.TypePTR, want: reverse6 + " PTR orders.shop.mesh."},
		{name: reverse4, qtype: dns.TypeTXT},
		{name: "1.0.66.240.in-addr.arpa", qtype: dns.TypePTR, rcode: dns.RcodeNameError},
		{name: "66.240.in-addr.arpa", qtype: dns.TypePTR},
		{name: "01.0.66.240.in-addr.arpa", qtype: dns.TypePTR, rcode: dns.RcodeNameError},

		{name: "nobody.shop.mesh", qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: "orders.shop.east.mesh", qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: "a.b.c.d.mesh", qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: "under_score.shop.mesh", qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: `or\.ders.shop.mesh`, qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: "shop.mesh", qtype: dns.TypeA},
		{name: "west.mesh", qtype: dns.TypeA},
		{name: "shop.west.mesh", qtype: dns.TypeA}, // no service, but orders.shop.west.mesh is below it
		{name: "Shop.svc.clusterset.local", qtype: dns.TypeA},
		{name: "db1.mesh", qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: "west.svc.clusterset.local", qtype: dns.TypeA, rcode: dns.RcodeNameError},
		{name: "_tcp.shop.west.mesh", qtype: dns.TypeSRV, rcode: dns.RcodeNameError},
		{name: strings.SplitN(reverse4, ".", 2)[1], qtype: dns.TypePTR},
		{name: "1.66.240.in-addr.arpa", qtype: dns.TypePTR, rcode: dns.RcodeNameError},
		{name: strings.SplitN(reverse6, ".", 2)[1], qtype: dns.TypePTR},
		{name: strings.SplitN(reverse6, ".", 5)[4], qtype: dns.TypePTR},
		{name: "0.0." + reverse6Zone, qtype: dns.TypePTR},
		{name: "1." + reverse6Zone, qtype: dns.TypePTR, rcode: dns.RcodeNameError},
		{name: "mesh", qtype: dns.TypeA},
		{name: "svc.clusterset.local", qtype: dns.TypeNS},
		{name: "mesh", qtype: dns.TypeSOA, want: texts([]dns.RR{soa("mesh.")})},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(fmt.Sprintf("%s/%s/%s", c.name, dns.TypeToString[c.qtype], network), func(t *testing.T) {
				r := ask(t, s, network, question(c.name, c.qtype))
				if r.Rcode != c.rcode || texts(r.Answer) != c.want || texts(r.Extra) != c.extra {
					t.Errorf("%s %q with %q; want %s %q with %q", dns.RcodeToString[r.Rcode], texts(r.Answer), texts(r.Extra), dns.RcodeToString[c.rcode], c.want, c.extra)
				}
				if negative := c.want == ""; negative != (len(r.Ns) == 1 && r.Ns[0].Header().Rrtype == dns.TypeSOA) {
					t.Errorf("authority %v", r.Ns)
				}
				if !r.Authoritative || !r.RecursionAvailable || r.Truncated || r.IsEdns0() != nil {
					t.Errorf("flags of\n%s", r)
				}
				for _, rr := range slices.Concat(r.Answer, r.Ns, r.Extra) {
					if rr.Header().Ttl != ttl {
						t.Errorf("holds for %d s", rr.Header().Ttl)
					}
				}
			})
		}
	}
}

func TestANameAboveServicesExistsFromTheFirstOfThemOnAndAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	for _, want := range []int{dns.RcodeNameError, dns.RcodeSuccess} {
		table := open(t, path)
		s := serve(t, shop(), func(c *Config) { c.Table = table })
		for _, name := range []string{"shop.mesh", "shop.svc.clusterset.local"} {
			if r := ask(t, s, "udp", question(name, dns.TypeA)); r.Rcode != want || len(r.Answer) != 0 || len(r.Ns) != 1 || r.Ns[0].Header().Ttl != ttl {
				t.Errorf("%s is\n%s\nwant %s", name, r, dns.RcodeToString[want])
			}
		}
		ask(t, s, "udp", question("orders.shop.mesh", dns.TypeA))
		if r := ask(t, s, "udp", question("shop.mesh", dns.TypeA)); r.Rcode != dns.RcodeSuccess {
			t.Errorf("above a service: %s", r)
		}
		_ = table.Close()
	}
}

func TestAMeshNameWithASearchDomainIsAbsentAndDoesNotLeaveTheMachine(t *testing.T) {
	var left []string
	up := outside(t, func(network string, b []byte) [][]byte {
		name, _, _ := dns.UnpackDomainName(b, headerSize)
		left = append(left, name)
		return echo(network, b)
	})
	s := serve(t, shop(), func(c *Config) {
		c.ResolvConf = naming(up)
		c.ResolvConf.current.search = []string{"shop.mesh.", "corp.example.", "example."}
	})
	for name, zone := range map[string]string{
		"orders.shop.mesh.corp.example":                 "mesh.corp.example.",
		"Orders.Shop.Mesh.Corp.Example":                 "mesh.corp.example.",
		"nobody.shop.west.mesh.corp.example":            "mesh.corp.example.",
		"_http._tcp.orders.shop.mesh.corp.example":      "mesh.corp.example.",
		"orders.shop.svc.clusterset.local.corp.example": "svc.clusterset.local.corp.example.",
		"orders.shop.mesh.example":                      "mesh.example.",
		"orders.shop.mesh.shop.mesh":                    "mesh.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			r := ask(t, s, "udp", question(name, qtype))
			if r.Rcode != dns.RcodeNameError || len(r.Ns) != 1 || r.Ns[0].Header().Name != zone || r.Ns[0].Header().Ttl != ttl {
				t.Errorf("%s is\n%s", name, r)
			}
		}
	}
	if len(left) != 0 {
		t.Errorf("asked outside for %v", left)
	}
	outer := []string{"mesh.corp.example.", "www.mesh.corp.example.", "corp.example.", "orders.shop.mesh.other.test.",
		"orders.shop.mymesh.corp.example.", "pod.clusterset.local.corp.example.", "svc.clusterset.local.corp.example."}
	for _, name := range outer {
		packet, _ := question(name, dns.TypeA).Pack()
		talk(t, addrOf(s), "tcp", packet)
	}
	if !slices.Equal(left, outer) {
		t.Errorf("asked outside for %v, want %v", left, outer)
	}
}

func TestAQuestionThatCannotBeReadIsAFormatError(t *testing.T) {
	leak := outside(t, func(_ string, b []byte) [][]byte {
		t.Errorf("left the machine: %x", b)
		return nil
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(leak) })
	two, _ := question("example.com", dns.TypeA).Pack()
	two[5] = 2
	two = append(two, []byte("\x06orders\x04shop\x04mesh\x00\x00\x01\x00\x01")...)
	for what, packet := range map[string][]byte{
		"two questions, one for a mesh name": two,
		"a torn name":                        []byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07e"),
		"a mesh name without a type":         []byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06orders\x04shop\x04mesh\x00\x00"),
		"a name that points at itself":       {1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1},
	} {
		for _, network := range []string{"udp", "tcp"} {
			want := []byte{packet[0], packet[1], 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0}
			if got := talk(t, addrOf(s), network, packet)[0]; !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %x, want %x", what, network, got, want)
			}
		}
	}
}

func TestThereIsSomethingBetweenTheReverseZonesAndTheAddressesThatAreGiven(t *testing.T) {
	table := open(t, "")
	table.addresses.put(host(t, "orders.shop.mesh"), 0x1234)
	s := serve(t, shop(), func(c *Config) { c.Table = table })
	for name, want := range map[string]int{
		"18.66.240.in-addr.arpa":                                dns.RcodeSuccess,
		"17.66.240.in-addr.arpa":                                dns.RcodeNameError,
		"19.66.240.in-addr.arpa":                                dns.RcodeNameError,
		"53.18.66.240.in-addr.arpa":                             dns.RcodeNameError,
		"3.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + reverse6Zone: dns.RcodeSuccess,
		"4.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + reverse6Zone: dns.RcodeNameError,
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + reverse6Zone:     dns.RcodeSuccess,
		"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + reverse6Zone:     dns.RcodeNameError,
		"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + reverse6Zone:       dns.RcodeSuccess,
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + reverse6Zone:       dns.RcodeNameError,
		"0." + reverse6Zone:                                     dns.RcodeSuccess,
		"1." + reverse6Zone:                                     dns.RcodeNameError,
		"x." + reverse6Zone:                                     dns.RcodeNameError,
		reverse6Zone:                                            dns.RcodeSuccess,
	} {
		if r := ask(t, s, "udp", question(name, dns.TypePTR)); r.Rcode != want || len(r.Answer) != 0 || len(r.Ns) != 1 {
			t.Errorf("%s is %s, want %s", name, dns.RcodeToString[r.Rcode], dns.RcodeToString[want])
		}
	}
}

func TestThePortlessNameIsWhatTheControlPlaneIsAskedFor(t *testing.T) {
	c := shop()
	s := serve(t, c, nil)
	ask(t, s, "udp", question("orders.shop.svc.clusterset.local", dns.TypeA))
	ask(t, s, "udp", question("_http._tcp.orders.shop.west.mesh", dns.TypeSRV))
	ask(t, s, "udp", question("a.b.c.d.mesh", dns.TypeA)) // cannot be a service
	want := []string{"orders.shop.mesh port 0", "orders.shop.west.mesh port 0"}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.asked, want) {
		t.Errorf("asked for %v, want %v", c.asked, want)
	}
}

func TestAQuestionWaitsForTheControlPlane(t *testing.T) {
	c := shop()
	c.late, c.waits = make(chan struct{}), make(chan struct{})
	s := serve(t, c, nil)
	got := make(chan *dns.Msg)
	for range 2 {
		go func() {
			r, _, _ := (&dns.Client{Timeout: 10 * time.Second}).Exchange(question("orders.shop.mesh", dns.TypeA), addrOf(s).String())
			got <- r
		}()
	}
	for range 2 {
		<-c.waits
	}
	// Nobody else waits for them.
	if r := ask(t, s, "udp", question("mesh", dns.TypeA)); r.Rcode != dns.RcodeSuccess {
		t.Errorf("%v", r)
	}
	close(c.late)
	for range 2 {
		if r := <-got; r == nil || len(r.Answer) != 1 {
			t.Errorf("%v", r)
		}
	}
}

func TestWithoutAnAnswerOfTheControlPlaneANameIsNotAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := shop()
		c.late = make(chan struct{})
		s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Ports: c.ports, Table: open(t, "")})
		if err != nil {
			t.Fatal(err)
		}
		q := question("nobody.shop.mesh", dns.TypeA)
		q.SetEdns0(4096, true)
		packet, _ := q.Pack()
		began := time.Now()
		r := new(dns.Msg)
		if err := r.Unpack(s.answer(t.Context(), packet, meshZone, true)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != answerLimit || r.Rcode != dns.RcodeServerFailure || len(r.Ns) != 0 {
			t.Errorf("after %s:\n%s", took, r)
		}
		why, ok := r.IsEdns0().Option[0].(*dns.EDNS0_EDE)
		if !ok || why.InfoCode != dns.ExtendedErrorCodeNotReady {
			t.Errorf("no reason in\n%s", r)
		}
	})
}

func TestEDNSIsAnsweredInKindAndUnknownVersionsAreRefused(t *testing.T) {
	s := serve(t, shop(), nil)
	q := question("orders.shop.mesh", dns.TypeA)
	q.SetEdns0(4096, true)
	r := ask(t, s, "udp", q)
	if opt := r.IsEdns0(); opt == nil || opt.UDPSize() != maxUDPAnswer || opt.Do() || len(r.Answer) != 1 {
		t.Errorf("answer\n%s", r)
	}
	q.IsEdns0().SetVersion(1)
	if r := ask(t, s, "udp", q); r.Rcode != dns.RcodeBadVers || len(r.Answer) != 0 {
		t.Errorf("answer to version 1\n%s", r)
	}
}

func TestOddQuestionsForMeshNamesStayHereAndAreRefused(t *testing.T) {
	leak := outside(t, func(_ string, b []byte) [][]byte {
		t.Errorf("a mesh name left the machine: %q", b)
		return nil
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(leak) })
	chaos := question("orders.shop.mesh", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if r := ask(t, s, "udp", chaos); r.Rcode != dns.RcodeRefused {
		t.Errorf("class CHAOS: %s", r)
	}
	for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
		if r := ask(t, s, "udp", question("mesh", qtype)); r.Rcode != dns.RcodeRefused {
			t.Errorf("a transfer: %s", r)
		}
	}
	anyClass := question("orders.shop.mesh", dns.TypeA)
	anyClass.Question[0].Qclass = dns.ClassANY
	if r := ask(t, s, "udp", anyClass); r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 || r.Answer[0].Header().Class != dns.ClassINET {
		t.Errorf("class ANY: %s", r)
	}
	twice := question("orders.shop.mesh", dns.TypeA)
	twice.SetEdns0(1232, false)
	twice.SetEdns0(4096, false)
	if r := ask(t, s, "udp", twice); r.Rcode != dns.RcodeFormatError || len(r.Answer) != 0 {
		t.Errorf("two OPT records: %s", r)
	}
	update := question("orders.shop.mesh", dns.TypeSOA)
	update.Opcode = dns.OpcodeUpdate
	if r := ask(t, s, "udp", update); r.Rcode != dns.RcodeNotImplemented || r.Opcode != dns.OpcodeUpdate {
		t.Errorf("update: %s", r)
	}
	packet, _ := question("orders.shop.mesh", dns.TypeA).Pack()
	packet[11] = 1 // promises a record that is torn
	packet = append(packet, 3, 'a')
	r := new(dns.Msg)
	if err := r.Unpack(s.answer(t.Context(), packet, meshZone, true)); err != nil || r.Rcode != dns.RcodeFormatError || len(r.Question) != 1 {
		t.Errorf("a torn message: %v\n%s", err, r)
	}
}

func TestAnAnswerThatIsTooLongIsTruncatedOverUDPAndWholeOverTCP(t *testing.T) {
	c := shop()
	var many []mesh.RoutePort
	for i := range 400 {
		many = append(many, mesh.RoutePort{Number: uint16(1000 + i), Protocol: mesh.TCP})
	}
	c.services["many.shop.mesh"] = many
	s := serve(t, c, nil)
	for _, size := range []int{0, 700, 4096} {
		q := question("many.shop.mesh", dns.TypeSRV)
		most := dns.MinMsgSize
		if size > 0 {
			q.SetEdns0(uint16(size), false)
			most = min(size, maxUDPAnswer)
		}
		packet, _ := q.Pack()
		b := talk(t, addrOf(s), "udp", packet)[0]
		r := new(dns.Msg)
		if err := r.Unpack(b); err != nil || !r.Truncated || len(b) > most || len(r.Answer) == 0 {
			t.Errorf("size %d: %d bytes, truncated %v, %d answers, %v", size, len(b), r.Truncated, len(r.Answer), err)
		}
	}
	if r := ask(t, s, "tcp", question("many.shop.mesh", dns.TypeSRV)); r.Truncated || len(r.Answer) != len(many) {
		t.Errorf("%d answers over TCP, truncated %v", len(r.Answer), r.Truncated)
	}
}

func TestWithoutIPv6ThereAreNoIPv6Addresses(t *testing.T) {
	s := serve(t, shop(), func(c *Config) { c.WithoutIPv6 = true })
	if r := ask(t, s, "udp", question("orders.shop.mesh", dns.TypeAAAA)); r.Rcode != dns.RcodeSuccess || len(r.Answer) != 0 || len(r.Ns) != 1 {
		t.Errorf("answer\n%s", r)
	}
	if r := ask(t, s, "udp", question("orders.shop.mesh", dns.TypeSRV)); strings.Contains(texts(r.Extra), "AAAA") {
		t.Errorf("extra %s", texts(r.Extra))
	}
}

func TestAnOrdinaryResolverFindsServicesByTheirNames(t *testing.T) {
	s := serve(t, shop(), nil)
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addrOf(s).String())
	}}
	v4, v6, _ := s.cfg.Table.Of(host(t, "orders.shop.mesh"))
	got, err := resolver.LookupNetIP(t.Context(), "ip", "orders.shop.mesh")
	if err != nil || len(got) != 2 || !slices.Contains(got, v4) || !slices.Contains(got, v6) {
		t.Errorf("%v, %v; want %s and %s", got, err, v4, v6)
	}
	_, srv, err := resolver.LookupSRV(t.Context(), "http", "tcp", "orders.shop.mesh")
	if err != nil || len(srv) != 1 || srv[0].Port != 80 || srv[0].Target != "orders.shop.mesh." {
		t.Errorf("%v, %v", srv, err)
	}
	if names, err := resolver.LookupAddr(t.Context(), v4.String()); err != nil || !slices.Equal(names, []string{"orders.shop.mesh."}) {
		t.Errorf("%v, %v", names, err)
	}
	var missing *net.DNSError
	if _, err := resolver.LookupNetIP(t.Context(), "ip", "nobody.shop.mesh."); err == nil {
		t.Error("a service that does not exist has an address")
	} else if missing, _ = err.(*net.DNSError); missing == nil || !missing.IsNotFound {
		t.Errorf("%v", err)
	}
}

func TestNamesThatNobodyAsksForAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released []string
		n := names{until: map[mesh.Destination]time.Time{}, release: func(d mesh.Destination) { released = append(released, d.Host()) }}
		there, typo := host(t, "orders.shop.mesh"), host(t, "github.com.mesh")
		for d, after := range map[mesh.Destination]time.Duration{there: forgetPresent, typo: forgetAbsent} {
			n.asked(d)
			n.answered(d, after)
		}
		time.Sleep(forgetAbsent - time.Second)
		n.expire()
		if len(released) != 0 {
			t.Errorf("released %v too early", released)
		}
		time.Sleep(time.Second)
		n.expire()
		if !slices.Equal(released, []string{"github.com.mesh"}) {
			t.Errorf("released %v", released)
		}
		time.Sleep(forgetPresent - forgetAbsent - time.Second)
		n.asked(there) // a question prolongs it
		n.answered(there, forgetPresent)
		time.Sleep(forgetPresent - time.Second)
		n.expire()
		if len(released) != 1 {
			t.Errorf("released %v although it was asked for", released)
		}
		time.Sleep(time.Second)
		n.expire()
		if !slices.Equal(released, []string{"github.com.mesh", "orders.shop.mesh"}) || n.len() != 0 {
			t.Errorf("released %v", released)
		}
	})
}

func TestAProgramThatAsksForManyNamesUsesUpNoMoreThanItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := 0
		n := names{until: map[mesh.Destination]time.Time{}, release: func(mesh.Destination) { released++ }}
		there := host(t, "orders.shop.mesh")
		n.asked(there)
		n.answered(there, forgetPresent)
		for i := range maxNames + 99 {
			d := host(t, fmt.Sprintf("x%d.shop.mesh", i))
			n.asked(d)
			n.answered(d, forgetAbsent)
		}
		if n.len() != maxNames || released != 100 {
			t.Errorf("%d names, %d released", n.len(), released)
		}
		if _, ok := n.until[there]; !ok {
			t.Error("the service that exists had to make room")
		}
	})
}

func TestAConfigIsRefusedWithAllItsFaults(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:53")
	_, err := New(Config{Listen: []netip.AddrPort{at, netip.MustParseAddrPort("0.0.0.0:53")}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("got %v, want three faults", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config is fine")
	}
}

func TestAPortThatIsTakenIsNamedAndNothingIsLeftOpen(t *testing.T) {
	free := nobody(t)
	l, u := pair(t)
	defer l.Close()
	defer u.Close()
	taken := l.Addr().(*net.TCPAddr).AddrPort()
	s, err := New(Config{Listen: []netip.AddrPort{free, taken}, Ports: shop().ports, Table: open(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("Run: %v, want an error that names %s", err, taken)
	}
	if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(free)); err != nil {
		t.Errorf("the other address stayed open: %v", err)
	} else {
		_ = c.Close()
	}
}
