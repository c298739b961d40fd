package interception

import (
	"net"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/interception/hooks"
)

func TestAProgramReachesTheSidecarAndSeesTheAddressItAskedFor(t *testing.T) {
	h := newHost(t)
	i := h.serve()
	for _, c := range []struct{ name, domain, to, peer, asked string }{
		{"IPv4", "4", "240.66.0.7:80", "240.66.0.7:80", "asked 240.66.0.7:80"},
		{"IPv4-mapped", "6", "240.66.0.7:5432", "[::ffff:240.66.0.7]:5432", "asked 240.66.0.7:5432"},
		{"IPv6", "6", "[fd69:7374:6d75::7]:6379", "[fd69:7374:6d75::7]:6379", "asked [fd69:7374:6d75::7]:6379"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "IPv6" {
				h.needIPv6()
			}
			got := h.program("tcp", c.domain, c.to)
			if want := (seen{Peer: c.peer, Answer: c.asked}); got != want {
				t.Errorf("the program saw %+v, want %+v", got, want)
			}
		})
	}
	if s, err := i.hooks.Stats(); err != nil || s.Captured < 2 || s.Refused != 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestAnAddressThatIsNotOfTheMeshIsLeftAlone(t *testing.T) {
	h := newHost(t)
	h.config.Captured = []netip.Prefix{mesh4, mesh6}
	i := h.serve()
	l := says(t, "127.66.0.7:0", "direct")
	got := h.program("tcp", "4", l.Addr().String())
	if want := (seen{Peer: l.Addr().String(), Answer: "direct"}); got != want {
		t.Errorf("the program saw %+v, want %+v", got, want)
	}
	if s, err := i.hooks.Stats(); err != nil || s != (hooks.Stats{}) {
		t.Errorf("stats %+v, %v, want none", s, err)
	}
}

func TestAProgramOutsideTheCgroupIsLeftAlone(t *testing.T) {
	h := newHost(t)
	h.serve()
	l := says(t, "127.66.0.7:0", "direct")
	c, err := net.Dial("tcp", l.Addr().String()) // this process, the sidecar
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := read(t, c); got != "direct" {
		t.Errorf("the sidecar's own connection reached %q", got)
	}
}

func TestNoWayToConnectGoesPastTheSidecar(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	addr, came := counted(t)
	for _, way := range []string{"multipath", "fastopen"} {
		if got := h.program("tcp", "4", addr, way); got.Err == "" {
			t.Errorf("%s without a sidecar: %+v", way, got)
		}
	}
	if err := i.Serve(Sockets{Outbound: h.outbound}); err != nil {
		t.Fatal(err)
	}
	go answerAsked(i, h.outbound[0])
	for _, way := range []string{"multipath", "fastopen"} {
		got := h.program("tcp", "4", addr, way)
		peer := addr
		if way == "multipath" { // see the package comment
			peer = h.outbound[0].Addr().String()
		}
		if got.Answer != "asked "+addr || got.Peer != peer {
			t.Errorf("%s: the program saw %+v", way, got)
		}
	}
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections went out directly", n)
	}
}

func TestAProgramInAnotherNetworkNamespaceIsNotSentToAStrangersLoopback(t *testing.T) {
	h := newHost(t)
	i := h.serve()
	ownNetwork(t)
	if got := h.program("tcp", "4", "240.66.0.7:80"); got.Err != "connection refused" {
		t.Errorf("the program saw %+v", got)
	}
	if s, err := i.hooks.Stats(); err != nil || s.OtherNamespace != 1 || s.Refused != 1 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestASocketThatIsBoundToADeviceIsRefusedAtOnceAndDoesNotHang(t *testing.T) {
	ownNetwork(t)
	addDevice(t, "other0")
	h := newHost(t)
	i := h.serve()
	for _, ask := range [][]string{
		{"tcp", "4", "240.66.0.7:80", "device other0"},
		{"tcp", "4", "192.0.2.53:53", "device other0"},
		{"udp", "4", "connected", "192.0.2.53:53", "device other0"},
		{"udp", "4", "unconnected", "192.0.2.53:53", "device other0"},
	} {
		if got := h.program(ask[0], ask[1:]...); got.Err != "connection refused" {
			t.Errorf("%v: the program saw %+v", ask, got)
		}
	}
	if got := h.program("tcp", "4", "240.66.0.7:80", "device lo"); got.Answer != "asked 240.66.0.7:80" {
		t.Errorf("bound to loopback the program saw %+v", got)
	}
	if s, err := i.hooks.Stats(); err != nil || s.BoundToDevice != 4 || s.Refused != 4 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestASocketThatIsBoundToADeviceGoesDirectlyWhenFailureIsOpen(t *testing.T) {
	ownNetwork(t)
	addDevice(t, "other0")
	h := newHost(t)
	h.config.OnFailure = hooks.FailOpen
	i := h.serve()
	if got := h.program("tcp", "4", "240.66.0.7:80", "device other0"); got.Err == "" || got.Err == "connection refused" {
		t.Errorf("the program saw %+v", got)
	}
	if s, err := i.hooks.Stats(); err != nil || s.BoundToDevice != 1 || s.Passed != 1 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestAConnectionMadeToTheSidecarItselfHasNoOriginalDestination(t *testing.T) {
	h := newHost(t)
	h.serve()
	for range 3 { // also right after a captured one
		h.program("tcp", "4", "240.66.0.7:80")
		got := h.program("tcp", "4", h.outbound[0].Addr().String())
		if got.Answer != "not captured" {
			t.Errorf("the sidecar took it for one that %s", got.Answer)
		}
	}
}

func TestDNSReachesTheSidecarWhichKnowsTheServerThatWasAskedAndAppearsToBeIt(t *testing.T) {
	h := newHost(t)
	i := h.serve()
	for _, c := range []struct{ name, domain, how, server, from string }{
		{"connected", "4", "connected", "192.0.2.53:53", "192.0.2.53:53"},
		{"unconnected", "4", "unconnected", "192.0.2.53:53", "192.0.2.53:53"},
		{"connected, IPv4-mapped", "6", "connected", "192.0.2.53:53", "[::ffff:192.0.2.53]:53"},
		{"unconnected, IPv4-mapped", "6", "unconnected", "192.0.2.53:53", "[::ffff:192.0.2.53]:53"},
		{"connected, IPv6", "6", "connected", "[2001:db8::53]:53", "[2001:db8::53]:53"},
		{"unconnected, IPv6", "6", "unconnected", "[2001:db8::53]:53", "[2001:db8::53]:53"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.server[0] == '[' {
				h.needIPv6()
			}
			got := h.program("udp", c.domain, c.how, c.server)
			if want := (seen{Peer: c.from, Answer: "answer to question for " + c.server}); got != want {
				t.Errorf("the program saw %+v, want %+v", got, want)
			}
		})
	}
	t.Run("to the sidecar itself", func(t *testing.T) {
		at := h.dnsUDP[0].LocalAddr().String()
		if got := h.program("udp", "4", "connected", at); got.Peer != at || got.Answer != "answer to question" {
			t.Errorf("the program saw %+v", got)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		got := h.program("tcp", "4", "192.0.2.53:53")
		if want := (seen{Peer: "192.0.2.53:53", Answer: "asked 192.0.2.53:53"}); got != want {
			t.Errorf("the program saw %+v, want %+v", got, want)
		}
	})
	if s, err := i.hooks.Stats(); err != nil || s.DNS < 5 || s.Captured != 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestUDPToTheMeshIsRefused(t *testing.T) {
	h := newHost(t)
	i := h.serve()
	for _, how := range []string{"connected", "unconnected"} {
		if got := h.program("udp", "4", how, "240.66.0.7:443"); got.Err == "" {
			t.Errorf("%s: got %+v, want an error", how, got)
		}
	}
	if s, err := i.hooks.Stats(); err != nil || s.UDPRefused != 2 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

// says listens and tells every caller the same.
func says(t *testing.T, addr, what string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(what))
			c.Close()
		}
	}()
	return l
}
