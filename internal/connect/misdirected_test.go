package connect

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

func TestAPlainClientIsRefusedInItsOwnProtocol(t *testing.T) {
	r := Refuse(400, RequestError, "write https")
	for said, want := range map[string]string{
		"GET / HTTP/1.1\r\n": "HTTP/1.1 400 Bad Request\r\n", "GET ": "HTTP/1.1 400 Bad Request\r\n",
		"": "", "GET": "", "get / ": "", "\x16\x03\x01": "", " GET": "", strings.Repeat("A", 40) + " ": "",
	} {
		if got := string(r.AppendPlain(nil, []byte(said), "x")); got != want && (want == "" || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
	frames := http2.NewFramer(nil, bytes.NewReader(r.AppendPlain(nil, []byte(http2.ClientPreface), "x")))
	if f, err := frames.ReadFrame(); err != nil || f.Header().Type != http2.FrameSettings {
		t.Fatalf("%v, %v", f, err)
	}
	f, err := frames.ReadFrame()
	if away, ok := f.(*http2.GoAwayFrame); err != nil || !ok || away.ErrCode != http2.ErrCodeInadequateSecurity || string(away.DebugData()) != "write https" {
		t.Errorf("%v, %v", f, err)
	}
}
