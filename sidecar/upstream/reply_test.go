package upstream

import (
	"strings"
	"testing"
)

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

func TestANameThatCannotBeAHeaderIsNotKept(t *testing.T) {
	for _, name := range []string{"", "a,b", "a b", "a\x00", "ü", strings.Repeat("x", 254)} {
		r, err := parseReply([]byte("HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: " + name + "\r\n\r\n"))
		if err == nil && r.who != (remoteName{}) {
			t.Errorf("instance %q is kept as %s", name, r.who)
		}
	}
	if r, _ := parseReply([]byte("HTTP/1.1 200 OK\r\nIsthmus-Cluster: We st\r\nIsthmus-Instance: a\r\n\r\n")); r.who != (remoteName{}) {
		t.Errorf("a bad cluster is kept as %s", r.who)
	}
}

func FuzzReply(f *testing.F) {
	f.Add([]byte(okReply))
	f.Add([]byte("HTTP/1.1 503 no\r\nProxy-Status: a; error=b; details=\"c\\\"\"\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nIsthmus-Cluster: a\r\nIsthmus-Instance: b,c\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, rest, ok := cutHead(b)
		if !ok {
			return
		}
		if len(head)+len(rest) != len(b) {
			t.Fatalf("%d + %d bytes of %d", len(head), len(rest), len(b))
		}
		r, err := parseReply(head)
		if err != nil {
			return
		}
		if r.refusal != nil && (r.refusal.Status < 300 || r.who != (remoteName{})) {
			t.Fatalf("refusal %v of %v", r.refusal, r.who)
		}
		if r.who != (remoteName{}) && (!r.final || !r.who.valid() || strings.ContainsAny(r.who.String(), ", \r\n")) {
			t.Fatalf("name %q", r.who)
		}
	})
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
