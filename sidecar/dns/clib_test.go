package dns

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// inNamespace is set in the process that runs a test alone on its network.
const inNamespace = "ISTHMUS_TEST_IN_NAMESPACE"

// alone runs the rest of the calling test in a process whose network has nothing
// but a loopback, and whose programs find content in /etc/resolv.conf. It reports
// whether this is that process.
func alone(t *testing.T, content string) bool {
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
		return false
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
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
	return true
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
	if !alone(t, "nameserver 127.0.0.1\nsearch shop.mesh mesh example.com\noptions ndots:5\n") {
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
