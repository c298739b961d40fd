package http1

import (
	"bytes"
	"slices"
	"testing"
)

// parsed returns the request that a head is.
func parsed(t testing.TB, head string) *Request {
	t.Helper()
	var r Request
	if n, err := r.Parse([]byte(head)); err != nil || n != len(head) {
		t.Fatalf("%q: %d, %v", head, n, err)
	}
	return &r
}

func TestThePathIsThatWhichIsPassedOn(t *testing.T) {
	for line, want := range map[string]struct{ path, target, instead string }{
		"GET /a/b?c=/d":           {"/a/b", "/a/b?c=/d", "/x?c=/d"},
		"GET /":                   {"/", "/", "/x"},
		"GET http://h/a?b":        {"/a", "/a?b", "/x?b"},
		"GET http://h?b":          {"/", "/?b", "/x?b"},
		"GET http://h":            {"/", "/", "/x"},
		"OPTIONS *":               {"", "*", "*"},
		"OPTIONS http://h":        {"", "*", "*"},
		"OPTIONS /a":              {"/a", "/a", "/x"},
		"CONNECT h:1":             {"", "h:1", "h:1"},
		"GET /%2e%2e//a;b?%2e%2e": {"/%2e%2e//a;b", "/%2e%2e//a;b?%2e%2e", "/x?%2e%2e"},
	} {
		r := parsed(t, line+" HTTP/1.1\r\nHost: h:1\r\n\r\n")
		if got := string(r.Path()); got != want.path {
			t.Errorf("%s: path %q, want %q", line, got, want.path)
		}
		if got := string(r.AppendTarget(nil, nil)); got != want.target {
			t.Errorf("%s: target %q, want %q", line, got, want.target)
		}
		if got := string(r.AppendTarget(nil, []byte("/x"))); got != want.instead {
			t.Errorf("%s: with another path %q, want %q", line, got, want.instead)
		}
	}
}

func TestTheFieldsAreThoseThatArePassedOn(t *testing.T) {
	r := parsed(t, "GET http://other/ HTTP/1.1\r\nHost: claimed\r\nX-A: 1\r\nx-a:2\r\nX-Hop: secret\r\nConnection: X-Hop, close\r\n"+
		"X-Forwarded-Client-Cert: By=me\r\nX-Forwarded-For: 10.0.0.1\r\nTE: trailers\r\nKeep-Alive: 1\r\n\r\n")
	values := func(f Forwarded, name string) (all []string) {
		for n := 0; ; n++ {
			v, ok := f.Value(name, n)
			if !ok {
				return all
			}
			all = append(all, string(v))
		}
	}
	for name, want := range map[string][]string{
		"host": {"other"}, "x-a": {"1", "2"}, "x-hop": nil, "connection": nil, "x-forwarded-client-cert": nil, "te": nil, "keep-alive": nil,
		"x-forwarded-for": {"10.0.0.1"}, "x-b": nil,
	} {
		if got := values(Forwarded{Request: r}, name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := values(Forwarded{Request: r, Outside: true}, "x-forwarded-for"); got != nil {
		t.Errorf("an outsider's claim %q counts", got)
	}
	// By the letter: what is looked up is in the head that goes on, and the other way round.
	head := AppendRequest(nil, r, &RequestRewrite{})
	for _, gone := range []string{"X-Hop", "Client-Cert", "Keep-Alive"} {
		if bytes.Contains(head, []byte(gone)) {
			t.Errorf("%s is passed on", gone)
		}
	}
}
