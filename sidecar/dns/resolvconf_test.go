package dns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// written writes content to path as a careless program would: in place.
func written(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResolvConfNamesTheServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	for content, want := range map[string][]string{
		"search example.com\nnameserver 10.0.0.53\noptions ndots:5\nnameserver fe80::1%eth0\n": {"10.0.0.53:53", "[fe80::1%eth0]:53"},
		"": {"127.0.0.1:53"},
		"nameserver ns.example.com\nnameserver 10.0.0.1":                                             {"10.0.0.1:53"},
		" nameserver 10.0.0.1\n#nameserver 10.0.0.2\nnameserver\nnameserver\t10.0.0.3 # the third\n": {"10.0.0.3:53"},
		strings.Repeat("nameserver 10.0.0.1\n", 5):                                                   {"10.0.0.1:53", "10.0.0.1:53", "10.0.0.1:53"},
	} {
		written(t, path, content)
		got, err := OpenResolvConf(path, nil)
		if err != nil || !slices.EqualFunc(got.load().servers, want, func(a netip.AddrPort, b string) bool { return a.String() == b }) {
			t.Errorf("%q: %v, %v; want %v", content, got.load().servers, err, want)
		}
	}
	if got, err := OpenResolvConf(filepath.Join(t.TempDir(), "missing"), nil); err != nil || len(got.load().servers) != 1 {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := OpenResolvConf(t.TempDir(), nil); err == nil {
		t.Error("a directory is read")
	}
}

func TestTheSearchListIsTheLastOneOrTheDomainOfTheHost(t *testing.T) {
	for content, want := range map[string][]string{
		"domain Corp.Example\n":                                {"corp.example."},
		"domain a.example\nsearch b.example. C.example . ..\n": {"b.example.", "c.example."},
		"search b.example\ndomain a.example\n":                 {"a.example."},
	} {
		if got := parseResolvConf([]byte(content)).search; !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
	host, _ := os.Hostname()
	_, domain, _ := strings.Cut(host, ".")
	if got := parseResolvConf(nil).search; !slices.Equal(got, searchList([]string{domain})) {
		t.Errorf("of host %s: %q", host, got)
	}
}

func TestAChangedResolvConfCountsFromTheNextQuestionOn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	synctest.Test(t, func(t *testing.T) {
		written(t, path, "nameserver 10.0.0.1\n")
		r, err := OpenResolvConf(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		step := func(what string, change func(), want string) {
			t.Helper()
			change()
			time.Sleep(lookEvery)
			if got := fmt.Sprint(r.load().servers); got != want {
				t.Errorf("%s: servers %s, want %s", what, got, want)
			}
		}
		step("nothing", func() {}, "[10.0.0.1:53]")
		step("written in place", func() { written(t, path, "nameserver 10.0.0.22\n") }, "[10.0.0.22:53]")
		step("replaced by another file of the same size", func() {
			written(t, path+".new", "nameserver 10.0.0.33\n")
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}, "[10.0.0.33:53]")
		step("gone", func() { _ = os.Remove(path) }, "[10.0.0.33:53]")
		step("empty", func() { written(t, path, "") }, "[10.0.0.33:53]")
		step("without a server yet", func() { written(t, path, "search example.com\n") }, "[10.0.0.33:53]")
		step("half a line", func() { written(t, path, "nameserver 10.0.0.4") }, "[10.0.0.33:53]")
		step("the other half", func() { written(t, path, "nameserver 10.0.0.44\nnameserver 10.0.0.5") }, "[10.0.0.33:53]")
		step("which was all", func() {}, "[10.0.0.44:53 10.0.0.5:53]")
		step("a link to another", func() {
			written(t, path+".other", "nameserver 10.0.0.66\n")
			_ = os.Remove(path)
			if err := os.Symlink(path+".other", path); err != nil {
				t.Fatal(err)
			}
		}, "[10.0.0.66:53]")
		step("whose target changes", func() { written(t, path+".other", "nameserver 10.0.0.7\nnameserver 10.0.0.8\n") }, "[10.0.0.7:53 10.0.0.8:53]")
		written(t, path, "nameserver 10.0.0.9\n")
		if got := fmt.Sprint(r.load().servers); got != "[10.0.0.7:53 10.0.0.8:53]" {
			t.Errorf("looked again at once: %s", got)
		}
	})
}

func TestWeAreNeverOurOwnServer(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:15053")
	mapped := netip.MustParseAddrPort("[::ffff:127.0.0.1]:15053")
	up := outside(t, echo)
	s, err := New(Config{Listen: []netip.AddrPort{at}, Ports: shop().ports, Table: open(t, ""), ResolvConf: naming(at, mapped, up)})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.servers(netip.AddrPort{}); !slices.Equal(got, []netip.AddrPort{up}) {
		t.Errorf("servers %v, want only %s", got, up)
	}
	s.cfg.ResolvConf = naming(at)
	packet, _ := question("example.com", dns.TypeA).Pack()
	r := new(dns.Msg)
	if err := r.Unpack(s.forwardUDP(t.Context(), packet, at)); err != nil || r.Rcode != dns.RcodeServerFailure {
		t.Errorf("with nobody but ourselves: %v, %v", r, err)
	}
}
