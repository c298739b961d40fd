package http1

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestAMalformedHostIsRefusedWhereverItStands(t *testing.T) {
	for _, authority := range []string{
		"a,b", "a, b", "b:99x", "[::1", ":80", "::1", "::1]", "a:b:1", "a:80:80", "a:65536", "a:000099999", "a:-1", "a:+1", "a: 80", "a :80",
		"[]", "[::1]x", "[::1]80", "[::1]:x", "[::1%25lo]", "[::1%lo]", "[1.2.3.4]", "[v1.a]", "[1:2:3:4:5:6:7]", "[1::2::3]", "[12345::]", "[::1.2.3]", "[::1.2.3.256]",
		"a[b", "a]", "u@a", "u:p@a", "a/b", "a?b", "a#b", "a\\b", "a%", "a%2", "a%zz", "a\"b", "a<b", "a^b", "a|b", "a{b}", "a`b", "caf\xc3\xa9", "a\tb",
	} {
		for form, c := range map[string]struct {
			head string
			want *Error
		}{
			"Host":                       {"GET / HTTP/1.1\r\nHost: " + authority + "\r\n\r\n", ErrHost},
			"Host of HTTP/1.0":           {"GET / HTTP/1.0\r\nHost: " + authority + "\r\n\r\n", ErrHost},
			"Host beside absolute-form":  {"GET http://a/ HTTP/1.1\r\nHost: " + authority + "\r\n\r\n", ErrHost},
			"authority-form":             {"CONNECT " + authority + " HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
			"absolute-form":              {"GET http://" + authority + "/ HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
			"absolute-form with a query": {"GET http://" + authority + "?q HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		} {
			if strings.ContainsAny(authority, "/?#") && form != "Host" || strings.Contains(authority, "\t") {
				continue // means something else there
			}
			var r Request
			if n, err := r.Parse([]byte(c.head)); n != 0 || !errors.Is(err, c.want) {
				t.Errorf("%s: %q: %d, %v; want %v", form, authority, n, err, c.want)
			}
		}
	}
}

func TestAWellFormedHostPassesWhereverItStands(t *testing.T) {
	for _, authority := range []string{
		"a", "A.b-c_d~e", "a.", "a:", "a:0", "a:65535", "a:0080", "1.2.3.4", "1.2.3.4:80", "999.1", "[::]", "[::1]", "[::1]:80", "[::1]:", "[2001:DB8::a:1]",
		"[1:2:3:4:5:6:7:8]", "[::ffff:1.2.3.4]:80", "[1:2:3:4:5:6:1.2.3.4]", "[1::]", "a%2Db", "a!$&'()*+;=b",
	} {
		for _, head := range []string{
			"GET / HTTP/1.1\r\nHost: " + authority + "\r\n\r\n",
			"GET http://" + authority + "/ HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET https://" + authority + " HTTP/1.1\r\nHost: a\r\n\r\n",
		} {
			r, _ := request(t, head)
			if string(r.Host()) != authority {
				t.Errorf("%q: host %q, want %q", head, r.Host(), authority)
			}
		}
	}
}

func TestTheTargetOfConnectNamesAPort(t *testing.T) {
	request(t, "CONNECT [::1]:80 HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, target := range []string{"a", "a:", "[::1]", "*", "http://a:80"} {
		var r Request
		if n, err := r.Parse([]byte("CONNECT " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")); n != 0 || !errors.Is(err, ErrTarget) {
			t.Errorf("CONNECT %s: %d, %v; want %v", target, n, err, ErrTarget)
		}
	}
}

// RFC 9112 §3.2.2: the Host beside an absolute-form target is ignored, and the next
// hop is told the target's.
func TestAnotherHostBesideAnAbsoluteTargetIsNotPassedOn(t *testing.T) {
	r, _ := request(t, "GET http://a:81/x HTTP/1.1\r\nHost: b\r\n\r\n")
	if string(r.Host()) != "a:81" {
		t.Errorf("host %q", r.Host())
	}
	if got, want := string(AppendRequest(nil, r, &RequestRewrite{})), "GET /x HTTP/1.1\r\nHost: a:81\r\n\r\n"; got != want {
		t.Errorf("goes on as %q, want %q", got, want)
	}
}

// FuzzIPv6AgainstNetip compares with net/netip.
func FuzzIPv6AgainstNetip(f *testing.F) {
	for _, s := range []string{"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4", "::ffff:1.2.3.4", "1::2::3", "12345::", ":1", "1:", ":::", "::01.2.3.4", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5::6:7:8", "1:2:3:4:5:6::1.2.3.4"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := netip.ParseAddr(string(b))
		want := err == nil && a.Is6() && a.Zone() == ""
		if got := isIPv6(b); got != want {
			t.Errorf("isIPv6(%q) = %v, net/netip says %v", b, got, want)
		}
	})
}
