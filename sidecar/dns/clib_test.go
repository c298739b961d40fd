package dns

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// inNamespace is set in the process that runs a test alone on its network.
const inNamespace = "ISTHMUS_TEST_IN_NAMESPACE"

// alone runs the rest of the calling test in a process whose network has nothing
// but a loopback, and whose programs find content in /etc/resolv.conf. In that process
// it returns the path of the file that is behind it, to be written in place.
func alone(t *testing.T, content string) (path string) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil && len(out) == 0:
			cannot(t, "needs root for a network namespace", err)
		case err != nil:
			t.Errorf("%v\n%s", err, out)
		}
		return ""
	}
	path = filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
	// An address that is not a loopback's: without one the C library asks nobody.
	second, err := unix.NewIfreq("lo:1")
	if err == nil {
		err = second.SetInet4Addr([]byte{192, 0, 2, 1})
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, second)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// cannot skips a test that needs something of the machine, and fails it where
// everything has to be there.
func cannot(t *testing.T, why string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v", why, err)
	}
	t.Skipf("%s: %v", why, err)
}

// The C library does what the server knows nothing of: search lists, ndots, asking
// again over TCP.
func TestTheCLibraryFindsServicesByTheirShortNames(t *testing.T) {
	getent, err := exec.LookPath("getent")
	if err != nil {
		cannot(t, "needs getent", err)
	}
	if alone(t, "nameserver 127.0.0.1\nsearch shop.mesh mesh example.com\noptions ndots:5\n") == "" {
		return
	}
	up := outside(t, func(network string, b []byte) [][]byte {
		q, r := new(dns.Msg), new(dns.Msg)
		if q.Unpack(b) != nil {
			return nil
		}
		r.SetReply(q)
		r.RecursionAvailable = true
		switch {
		case q.Question[0].Name != "www.example.com.":
			r.Rcode = dns.RcodeNameError
		case network == "udp":
			r.Truncated = true
		case q.Question[0].Qtype == dns.TypeA:
			r.Answer = []dns.RR{&dns.A{Hdr: header("www.example.com.", dns.TypeA), A: []byte{192, 0, 2, 7}}}
		}
		b, _ = r.Pack()
		return [][]byte{b}
	})
	table := open(t, "")
	orders, _, _ := table.Of(host(t, "orders.shop.mesh"))
	west, _, _ := table.Of(host(t, "orders.shop.west.mesh"))
	serve(t, shop(), func(c *Config) {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
		c.ResolvConf = naming(up)
		c.Table = table
	})
	for name, want := range map[string]netip.Addr{
		"orders":                           orders,
		"orders.shop":                      orders,
		"Orders.shop.mesh":                 orders,
		"orders.shop.mesh.":                orders,
		"orders.shop.svc.clusterset.local": orders,
		"orders.shop.west":                 west,
		"orders.shop.west.mesh":            west,
		"www.example.com":                  netip.MustParseAddr("192.0.2.7"),
		"www":                              netip.MustParseAddr("192.0.2.7"),
		"nobody.shop.mesh":                 {},
		"nobody":                           {},
	} {
		out, err := exec.CommandContext(t.Context(), getent, "ahostsv4", name).Output()
		var got []string
		for line := range strings.Lines(string(out)) {
			got = append(got, strings.Fields(line)[0])
		}
		got = slices.Compact(got)
		if want.IsValid() && !slices.Equal(got, []string{want.String()}) || !want.IsValid() && (len(got) > 0 || err == nil) {
			t.Errorf("%s is at %v (%v), want %s", name, got, err, want)
		}
	}
}

// serverAt is a server of the world outside on port 53 of a loopback address. It says
// that every name is at answer, except mesh names, which it must not be asked for.
func serverAt(t *testing.T, address string, answer netip.Addr) {
	t.Helper()
	pc, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		name := q.Question[0].Name
		if strings.Contains(name, ".mesh.") {
			t.Errorf("%s left the machine", name)
		}
		r := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			r.Answer = []dns.RR{&dns.A{Hdr: header(name, dns.TypeA), A: answer.AsSlice()}}
		}
		_ = w.WriteMsg(r)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-ended
	})
}

func TestProgramsAndTheSidecarFollowAResolvConfThatChanges(t *testing.T) {
	getent, err := exec.LookPath("getent")
	if err != nil {
		cannot(t, "needs getent", err)
	}
	const forUs = "nameserver 127.0.0.1\nsearch corp.example\noptions ndots:5\n" // as if the program were captured
	path := alone(t, forUs)
	if path == "" {
		return
	}
	first, second := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	serverAt(t, "127.0.0.2", first)
	serverAt(t, "127.0.0.3", second)
	// The sidecar's own file: here nothing captures the program, so that it asks us by its own.
	own := path + ".sidecar"
	written(t, own, "nameserver 127.0.0.1\nnameserver 127.0.0.2\nsearch corp.example\n")
	resolvers, err := OpenResolvConf(own, nil)
	if err != nil {
		t.Fatal(err)
	}
	table := open(t, "")
	orders, _, _ := table.Of(host(t, "orders.shop.mesh"))
	serve(t, shop(), func(c *Config) {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
		c.ResolvConf, c.Table = resolvers, table
	})
	expect := func(name string, want netip.Addr) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), getent, "ahostsv4", name).Output()
		if got, _, _ := strings.Cut(string(out), " "); got != want.String() {
			t.Errorf("%s is at %q (%v), want %s", name, got, err, want)
		}
	}
	expect("www.example.com.", first)
	expect("orders.shop.mesh", orders) // asked with the search domain first
	written(t, own, "nameserver 127.0.0.3\nsearch corp.example\n")
	resolvers.mu.Lock()
	resolvers.looked = time.Time{} // a second later
	resolvers.mu.Unlock()
	expect("www.example.com.", second)
	expect("orders.shop.mesh", orders)
}
