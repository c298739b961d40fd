package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAPathHasOneNormalFormOrNone(t *testing.T) {
	for path, want := range map[string]string{
		"/":                                    "/",
		"/orders":                              "/orders",
		"/orders/":                             "/orders/",
		"//orders":                             "/orders",
		"/orders//7":                           "/orders/7",
		"/orders//":                            "/orders/",
		"/./orders":                            "/orders",
		"/orders/.":                            "/orders/",
		"/orders/./7":                          "/orders/7",
		"/public/../orders":                    "/orders",
		"/a/b/..":                              "/a/",
		"/a/b/../..":                           "/",
		"/%6frders":                            "/orders",
		"/%4Frders":                            "/Orders",
		"/public/%2e%2E/x":                     "/x",
		"/a/%2e/b":                             "/a/b",
		"/a%7eb":                               "/a~b",
		"/a%3ab":                               "/a:b",
		"/a%c3%a9":                             "/a%C3%A9",
		"/a%20b":                               "/a%20b",
		"/a%3b":                                "/a%3B",
		"/100%25":                              "/100%25",
		"/100%25x":                             "/100%25x",
		"/...":                                 "/...",
		"/..a":                                 "/..a",
		"/a/.%2e/b":                            "/b",
		"/%2e%2e%2e":                           "/...",
		"/f%F0%9F%98%80":                       "/f%F0%9F%98%80",
		"":                                     "!",
		"*":                                    "!",
		"orders":                               "!",
		"http://host/a":                        "!",
		"/a%2fb":                               "!",
		"/a%2Fb":                               "!",
		"/a%5cb":                               "!",
		`/a\b`:                                 "!",
		`/a\..\b`:                              "!",
		"/a;x=1":                               "!",
		"/a/..;/b":                             "!",
		"/;/a":                                 "!",
		"/..":                                  "!",
		"/a/../..":                             "!",
		"/%2e%2e":                              "!",
		"/a?b":                                 "!",
		"/a#b":                                 "!",
		"/a b":                                 "!",
		"/a\x00":                               "!",
		"/a%00":                                "!",
		"/a%0a":                                "!",
		"/a%7f":                                "!",
		"/a%":                                  "!",
		"/a%2":                                 "!",
		"/a%zz":                                "!",
		"/%252e%252e/a":                        "!",
		"/%25%32%65":                           "!", // an escape whose digits are escaped
		"/a%c0%af":                             "!",
		"/a%e0%80%af":                          "!",
		"/a%ff":                                "!",
		"/a%c3":                                "!",
		"/a%c3a":                               "!",
		"/a%ed%a0%80":                          "!", // a surrogate
		"/caf\xc3\xa9":                         "!", // not escaped
		"/a%ef%bf%bd":                          "/a%EF%BF%BD",
		"/a%e2%80%8b%2fb":                      "!",
		"/" + strings.Repeat("a/../", 3) + "b": "/b",
	} {
		got, err := AppendPath([]byte("before"), []byte(path))
		if err != nil {
			got = []byte("before!")
		}
		if string(got) != "before"+want {
			t.Errorf("%q: %q, %v, want %q", path, got[len("before"):], err, want)
		}
		if isNormal([]byte(path)) != (want == path) {
			t.Errorf("%q: is normal: %v", path, want != path)
		}
	}
}

func TestANormalFormIsItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{
			"/", "/", ".", "..", "a", "B", "%2e", "%2E", "%61", "%2f", "%25", "2e", "%C3%A9", "%c3", ";", ":", "%3A", "*", "~", "%7e", "%20", "\\", "%",
		})).Draw(t, "parts")
		path := []byte("/" + strings.Join(parts, ""))
		normal, err := AppendPath(nil, path)
		if err != nil {
			if isNormal(path) {
				t.Fatalf("%q has no normal form and is normal", path)
			}
			return
		}
		again, err := AppendPath(nil, normal)
		if err != nil || string(again) != string(normal) || !isNormal(normal) {
			t.Fatalf("%q: %q, then %q, %v", path, normal, again, err)
		}
		if isNormal(path) != (string(path) == string(normal)) {
			t.Fatalf("%q: normal: %v, its form is %q", path, isNormal(path), normal)
		}
	})
}

func FuzzAppendPath(f *testing.F) {
	for _, s := range []string{"/a/%2e%2e/b", "/%c3%a9;x", "//", "/a%25%32e"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		normal, err := AppendPath(nil, path)
		if err != nil {
			return
		}
		for _, bad := range []string{"//", "\\", ";", "?", "#", "%2e", "%2E", "%2F", "%5C", "%00"} {
			if strings.Contains(string(normal), bad) {
				t.Fatalf("%q: %q has %q", path, normal, bad)
			}
		}
		for _, bad := range []string{"/./", "/../"} {
			if strings.Contains(string(normal)+"/", bad) {
				t.Fatalf("%q: %q has %q", path, normal, bad)
			}
		}
		if len(normal) > 3*len(path)+1 || !isNormal(normal) {
			t.Fatalf("%q: %q", path, normal)
		}
	})
}
