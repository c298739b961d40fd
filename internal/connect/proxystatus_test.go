package connect

import (
	"strings"
	"testing"
)

func TestDetailsAreQuotedAndCannotLeaveTheField(t *testing.T) {
	got := ProxyStatus("isthmus-west-1", "destination_unavailable", "a \"b\" \\ c\r\nX: y \xff")
	want := `isthmus-west-1; error=destination_unavailable; details="a \"b\" \\ c??X: y ?"`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDetailsAreBounded(t *testing.T) {
	if n := len(ProxyStatus("p", "e", strings.Repeat("x", 1<<20))); n > maxDetails+50 {
		t.Errorf("%d bytes", n)
	}
}

func TestProxyStatusIsRead(t *testing.T) {
	for in, want := range map[string][3]string{
		``: {},
		`isthmus-west-1; error=destination_unavailable; details="no ready endpoint"`: {"isthmus-west-1", "destination_unavailable", "no ready endpoint"},
		`a;error=x , b;error=y`:                                                  {"a", "x", ""},
		`near, far; error=connection_refused`:                                    {"far", "connection_refused", ""},
		`"quoted name";details="a \"b\" \\ c; d, e" ; error=http_request_denied`: {"quoted name", "http_request_denied", `a "b" \ c; d, e`},
		`gw; next-hop=10.0.0.1:80; received-status=503; error=x`:                 {"gw", "x", ""},
		`gw; flag; error=x`:                                                      {"gw", "x", ""},
		`gw; error`:                                                              {"gw", "", ""},
		`gw; details="never ends`:                                                {"gw", "", "never ends"},
		`= = ,;;;, gw;error=x`:                                                   {"gw", "x", ""},
	} {
		if p, r, d := parseProxyStatus(in); [3]string{p, r, d} != want {
			t.Errorf("%s: %q, want %q", in, [3]string{p, r, d}, want)
		}
	}
}

func FuzzProxyStatus(f *testing.F) {
	f.Add(`isthmus-west-1; error=destination_unavailable; details="no \"ready\" endpoint", b`)
	f.Add(`,;="`)
	f.Fuzz(func(t *testing.T, in string) {
		p, r, d := parseProxyStatus(in)
		if len(p)+len(r)+len(d) > len(in) {
			t.Fatalf("more came out than went in: %q %q %q", p, r, d)
		}
	})
}
