package hostport

import (
	"strings"
	"testing"
)

func TestAddressesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]Addr{
		"10.0.0.5":              {"10.0.0.5", -1},
		"10.0.0.5:80":           {"10.0.0.5", 80},
		":7443":                 {"", 7443},
		"gw1.west.example:7443": {"gw1.west.example", 7443},
		"gw1.west.example.":     {"gw1.west.example.", -1},
		"localhost:0":           {"localhost", 0},
		"::1":                   {"::1", -1},
		"[::1:7500]":            {"::1:7500", -1},
		"fd00::1:a":             {"fd00::1:a", -1},
		"1:2:3:4:5:6:7:8":       {"1:2:3:4:5:6:7:8", -1},
		"[::1]":                 {"::1", -1},
		"[fd00::7]:15008":       {"fd00::7", 15008},
		"orders_1:80":           {"orders_1", 80},
		strings.Repeat("a", 63): {strings.Repeat("a", 63), -1},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestWhatCannotBeAnAddressIsRefused(t *testing.T) {
	for _, text := range []string{
		"", ":", "8080", "host:", "host:http", "host:65536", "host:-1", "10.0.0.256", "10.0.0.1.2:80", "a..b", "-a",
		"a b:80", "http://host:80", "host/path:80", "[::1", "[host]:80", "fd00::7]:80", "1::2::3", "::1:7500", "fd00::7:80", "ho\x00st:1", "höst:1",
		strings.Repeat("a", 64), strings.Repeat("a.", 130) + "a",
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q was taken for %+v", text, got)
		}
	}
}

func TestListenersThatCannotBothBeOpenedOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":80", ":80", true}, {":80", "127.0.0.1:80", true}, {"0.0.0.0:80", "10.0.0.1:80", true}, {"[::]:80", "10.0.0.1:80", true},
		{"localhost:80", "127.0.0.1:80", true}, {"127.0.0.1:80", "127.0.0.2:80", false}, {":80", ":81", false}, {":0", ":0", false},
	} {
		a, _ := Parse(c.a)
		b, _ := Parse(c.b)
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
	}
}

func TestAnInstanceNameHasNoSeparators(t *testing.T) {
	for name, good := range map[string]bool{
		"orders-1": true, "Orders_1.local": true, "a": true,
		"": false, "a,b": false, "a/b": false, "a b": false, "-a": false, "a-": false, "a\r\nb": false, strings.Repeat("a", 254): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[fd00::7]:15008")
	f.Add("host:80")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil || a.Port < 0 {
			return
		}
		again, err := Parse(a.String())
		if err != nil || again != a {
			t.Errorf("%q: %+v is written as %q, which is %+v, %v", s, a, a, again, err)
		}
	})
}
