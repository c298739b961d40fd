package dns

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// echo answers with what it was sent, marked as a reply, and something that no
// DNS library would write.
func echo(_ string, packet []byte) [][]byte {
	b := append(bytes.Clone(packet), 0xde, 0xad)
	b[2] |= flagResponse
	return [][]byte{b}
}

// talk sends messages over network and returns as many that came back.
func talk(t testing.TB, to netip.AddrPort, network string, packets ...[]byte) [][]byte {
	t.Helper()
	c, err := net.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	for _, p := range packets {
		if network == "tcp" {
			err = writeMessage(c, p)
		} else {
			_, err = c.Write(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var got [][]byte
	for range packets {
		if network == "tcp" {
			b, err := readMessage(c)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b)
			continue
		}
		b := make([]byte, maxMessage)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b[:n])
	}
	return got
}

func TestWhatIsNotOursPassesByteForByte(t *testing.T) {
	var seen atomic.Pointer[[]byte]
	up := outside(t, func(network string, b []byte) [][]byte {
		c := bytes.Clone(b)
		seen.Store(&c)
		return echo(network, b)
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	pack := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cookie := question("eXaMpLe.com", dns.TypeA)
	cookie.SetEdns0(4096, true)
	cookie.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
	update := question("example.com", dns.TypeSOA)
	update.Opcode = dns.OpcodeUpdate
	for name, packet := range map[string][]byte{
		"EDNS, a cookie and odd case":       pack(cookie),
		"a name with a mesh name in it":     pack(question("orders.shop.mesh.example.com", dns.TypeA)),
		"a name that ends like the mesh":    pack(question("shop.mymesh", dns.TypeA)),
		"another zone of the multi-cluster": pack(question("pod.clusterset.local", dns.TypeA)),
		"somebody's address":                pack(question("8.8.8.8.in-addr.arpa", dns.TypePTR)),
		"the root":                          pack(question(".", dns.TypeNS)),
		"an update":                         pack(update),
		"no question":                       {1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"an update of nothing":              {1, 2, 5 << 3, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1, 0, 0, 6, 0, 1},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				got := talk(t, addrOf(s), network, packet)[0]
				if want := echo(network, packet)[0]; !bytes.Equal(got, want) {
					t.Errorf("came back as\n%x, want\n%x", got, want)
				}
				if !bytes.Equal(*seen.Load(), packet) {
					t.Errorf("arrived as\n%x, want\n%x", *seen.Load(), packet)
				}
			})
		}
	}
}

func TestTruncationPassesAndTheLongAnswerComesOverTCP(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 60_000)
	up := outside(t, func(network string, b []byte) [][]byte {
		r := bytes.Clone(b)
		r[2] |= flagResponse
		if network == "udp" {
			r[2] |= 0x02 // TC
			return [][]byte{r}
		}
		return [][]byte{append(r, long...)}
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	packet, _ := question("example.com", dns.TypeTXT).Pack()
	if got := talk(t, addrOf(s), "udp", packet)[0]; got[2]&0x02 == 0 || len(got) != len(packet) {
		t.Errorf("over UDP %x", got)
	}
	if got := talk(t, addrOf(s), "tcp", packet)[0]; !bytes.HasSuffix(got, long) {
		t.Errorf("over TCP %d bytes", len(got))
	}
}

func TestADeadServerCostsNothingAndASilentOneASecondOnce(t *testing.T) {
	good := outside(t, echo)
	var silences atomic.Int64
	silent := outside(t, func(string, []byte) [][]byte { silences.Add(1); return nil })
	packet, _ := question("example.com", dns.TypeA).Pack()
	for name, bad := range map[string]netip.AddrPort{"dead": nobody(t), "silent": silent} {
		s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(bad, good) })
		for range 20 {
			if got := talk(t, addrOf(s), "udp", packet)[0]; !bytes.Equal(got, echo("", packet)[0]) {
				t.Errorf("%s: %x", name, got)
			}
		}
	}
	if n := silences.Load(); n != 1 {
		t.Errorf("the silent server was asked %d times, want once", n)
	}
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(nobody(t), good) })
	if got := talk(t, addrOf(s), "tcp", packet)[0]; !bytes.Equal(got, echo("", packet)[0]) {
		t.Errorf("over TCP: %x", got)
	}
}

// named answers with its name in place of an address's bytes.
func named(t testing.TB, name string) netip.AddrPort {
	return outside(t, func(_ string, packet []byte) [][]byte { return [][]byte{append(echo("", packet)[0], name...)} })
}

func TestAQuestionGoesToTheServerThatWasAsked(t *testing.T) {
	first, second, other := named(t, "first"), named(t, "second"), named(t, "other")
	dead := nobody(t)
	packet, _ := question("example.com", dns.TypeA).Pack()
	ours, _ := question("orders.shop.mesh", dns.TypeA).Pack()
	for _, c := range []struct {
		what     string
		original netip.AddrPort // invalid: not known
		want     string         // empty: SERVFAIL
	}{
		{"one that resolv.conf does not name", other, "other"},
		{"the second of resolv.conf", second, "second"},
		{"not known", netip.AddrPort{}, "first"},
		{"a dead one that resolv.conf does not name", dead, ""},
	} {
		s := serve(t, shop(), func(cfg *Config) {
			cfg.ResolvConf = naming(first, second)
			cfg.OriginalServer = func(at, from netip.AddrPort) (netip.AddrPort, bool) {
				if !at.IsValid() || !from.IsValid() || at == from {
					t.Errorf("received at %s from %s", at, from)
				}
				return c.original, c.original.IsValid()
			}
			cfg.OriginalDestination = func(conn net.Conn) (netip.AddrPort, bool) {
				if _, ok := conn.(*net.TCPConn); !ok {
					t.Errorf("a connection of type %T", conn)
				}
				return c.original, c.original.IsValid()
			}
		})
		for _, network := range []string{"udp", "tcp"} {
			got := talk(t, addrOf(s), network, packet)[0]
			if c.want != "" && !bytes.HasSuffix(got, []byte(c.want)) || c.want == "" && got[3]&0xf != dns.RcodeServerFailure {
				t.Errorf("%s, %s: %q, want %q", c.what, network, got, c.want)
			}
			if got := talk(t, addrOf(s), network, ours)[0]; got[3]&0xf != dns.RcodeSuccess {
				t.Errorf("%s, %s: a mesh name is %x", c.what, network, got)
			}
		}
	}
}

func TestAServerOfResolvConfThatWasAskedIsAskedFirstAndTheOthersWhenItFails(t *testing.T) {
	scoped := netip.MustParseAddrPort("[fe80::1%lo]:53")
	a, b := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53")
	us := netip.MustParseAddrPort("127.0.0.1:53")
	s, err := New(Config{Listen: []netip.AddrPort{us}, Ports: shop().ports, Table: open(t, ""), ResolvConf: naming(a, b, us, scoped)})
	if err != nil {
		t.Fatal(err)
	}
	for original, want := range map[string][]netip.AddrPort{
		"192.0.2.2:53":          {b, scoped, a},
		"[::ffff:192.0.2.2]:53": {b, scoped, a},
		"[fe80::1]:53":          {scoped, a, b},
		"127.0.0.1:53":          {a, b, scoped},
		"192.0.2.3:53":          {netip.MustParseAddrPort("192.0.2.3:53")},
	} {
		if got := s.servers(netip.MustParseAddrPort(original)); !slices.Equal(got, want) {
			t.Errorf("%s was asked: %v, want %v", original, got, want)
		}
	}
}

func TestASilentServerThatIsAlwaysAskedCostsASecondOnce(t *testing.T) {
	var speaks atomic.Bool
	first := outside(t, func(network string, b []byte) [][]byte {
		if !speaks.Load() {
			return nil
		}
		return [][]byte{append(echo(network, b)[0], "first"...)}
	})
	release := make(chan struct{})
	second := outside(t, func(network string, b []byte) [][]byte {
		if speaks.Load() {
			<-release // the first is faster
		}
		return echo(network, b)
	})
	defer close(release)
	s := serve(t, shop(), func(c *Config) {
		c.ResolvConf = naming(first, second)
		c.OriginalServer = func(_, _ netip.AddrPort) (netip.AddrPort, bool) { return first, true }
	})
	var packets [][]byte
	for i := range 40 { // more than the 20 s that talk waits, if each cost a second
		q := question("example.com", dns.TypeA)
		q.Id = uint16(i)
		b, _ := q.Pack()
		packets = append(packets, b)
	}
	c, err := net.Dial("udp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	exchange := func(packet []byte) []byte {
		_, _ = c.Write(packet)
		b := make([]byte, maxMessage)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return b[:n]
	}
	for _, p := range packets {
		if got := exchange(p); !bytes.Equal(got, echo("", p)[0]) {
			t.Errorf("%x", got)
		}
	}
	speaks.Store(true)
	if got := exchange(packets[0]); !bytes.HasSuffix(got, []byte("first")) || s.silent.Load().IsValid() {
		t.Errorf("when it speaks again: %x, silent %s", got, s.silent.Load())
	}
}

func TestWithNobodyToForwardToTheQuestionFailsAtOnce(t *testing.T) {
	for name, ups := range map[string][]netip.AddrPort{"none": nil, "dead": {nobody(t), nobody(t)}} {
		s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(ups...) })
		for _, network := range []string{"udp", "tcp"} {
			q := question("example.com", dns.TypeA)
			if r := ask(t, s, network, q); r.Rcode != dns.RcodeServerFailure || r.Id != q.Id || len(r.Question) != 1 {
				t.Errorf("%s, %s: %s", name, network, r)
			}
		}
	}
}

func TestAMessageThatDoesNotAnswerTheQuestionIsIgnoredAndTheWaitGoesOn(t *testing.T) {
	q := question("wWw.example.com", dns.TypeA)
	packet, _ := q.Pack()
	forge := func(change func(r *dns.Msg)) []byte {
		r := new(dns.Msg)
		r.SetReply(q)
		change(r)
		b, err := r.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	forgeries := [][]byte{
		forge(func(r *dns.Msg) { r.Id++ }),
		forge(func(r *dns.Msg) { r.Question[0].Name = "www.example.net." }),
		forge(func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeAAAA }),
		forge(func(r *dns.Msg) { r.Question[0].Qclass = dns.ClassCHAOS }),
		forge(func(r *dns.Msg) { r.Question = nil }),
		forge(func(r *dns.Msg) { r.Question = append(r.Question, r.Question[0]) }),
		forge(func(r *dns.Msg) { r.Opcode = dns.OpcodeNotify }),
		forge(func(r *dns.Msg) {
			r.Question, r.Rcode = nil, dns.RcodeNameError
		}),
		forge(func(r *dns.Msg) {
			r.Question, r.Rcode = nil, dns.RcodeRefused
			r.Answer = []dns.RR{&dns.A{Hdr: header("www.example.com.", dns.TypeA), A: []byte{192, 0, 2, 66}}}
		}),
		packet, // no answer at all
		{1},
		append(bytes.Clone(packet[:2]), 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12), // a question that points at itself
	}
	answers := [][]byte{
		forge(func(r *dns.Msg) { r.Rcode = dns.RcodeNameError }),
		forge(func(r *dns.Msg) { r.Question[0].Name = "WwW.EXAMPLE.com." }),
		forge(func(r *dns.Msg) { r.Question, r.Rcode = nil, dns.RcodeFormatError }), // of a server that knows no EDNS
	}
	for _, want := range answers {
		up := outside(t, func(network string, b []byte) [][]byte { return append(slices.Clone(forgeries), want) })
		s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
		for _, network := range []string{"udp", "tcp"} {
			if got := talk(t, addrOf(s), network, packet)[0]; !bytes.Equal(got, want) {
				t.Errorf("%s: %x, want %x", network, got, want)
			}
		}
		if got := testutil.ToFloat64(s.metrics.mismatched); got != float64(2*len(forgeries)) {
			t.Errorf("%v messages were counted as mismatched, want %d", got, 2*len(forgeries))
		}
	}
}

func TestAnAnswerFromAnotherAddressThanTheServersIsIgnored(t *testing.T) {
	spoofer, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer spoofer.Close()
	l, u := pair(t)
	defer l.Close()
	defer u.Close()
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() {
		b := make([]byte, maxMessage)
		n, from, err := u.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		answer := echo("udp", b[:n])[0]
		_, _ = spoofer.WriteToUDPAddrPort(append(answer, "spoofed"...), from)
		_, _ = u.WriteToUDPAddrPort(append(answer, "honest"...), from)
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(u.LocalAddr().(*net.UDPAddr).AddrPort()) })
	packet, _ := question("example.com", dns.TypeA).Pack()
	if got := talk(t, addrOf(s), "udp", packet)[0]; !bytes.HasSuffix(got, []byte("honest")) {
		t.Errorf("%q", got)
	}
}

func TestQuestionsOfOneConnectionMayHaveTheSameIDAndTooManyThatWaitFail(t *testing.T) {
	release := make(chan struct{})
	up := outside(t, func(network string, b []byte) [][]byte {
		<-release
		return echo(network, b)
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	c, err := net.Dial("tcp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	for i := range maxPending + 1 {
		q := question(fmt.Sprintf("s%d.example.com", i), dns.TypeA)
		q.Id = 7
		b, _ := q.Pack()
		if err := writeMessage(c, b); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := readMessage(c); err != nil || b[3]&rcodeBits != dns.RcodeServerFailure {
		t.Errorf("first %x, %v; want that the last one fails", b, err)
	}
	close(release)
	for i := range maxPending {
		if b, err := readMessage(c); err != nil || !bytes.HasSuffix(b, []byte{0xde, 0xad}) {
			t.Fatalf("answer %d: %x, %v", i, b, err)
		}
	}
}

func TestAPacketThatIsNoQuestionGetsNoAnswer(t *testing.T) {
	up := outside(t, func(_ string, b []byte) [][]byte { t.Errorf("forwarded %x", b); return nil })
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	reply, _ := new(dns.Msg).SetReply(question("orders.shop.mesh", dns.TypeA)).Pack()
	last, _ := question("orders.shop.mesh", dns.TypeA).Pack()
	c, err := net.Dial("udp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range [][]byte{{}, {1}, make([]byte, headerSize-1), reply, last} {
		_, _ = c.Write(b)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	b := make([]byte, maxMessage)
	n, err := c.Read(b)
	if err != nil || !bytes.Equal(b[:2], last[:2]) {
		t.Errorf("the first answer is %x, %v; want that to %x", b[:n], err, last)
	}
}
