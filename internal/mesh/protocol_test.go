package mesh

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryProtocolHasItsWordAndNothingElseIsOne(t *testing.T) {
	for _, p := range []Protocol{HTTP, HTTP2, GRPC, TCP, Auto} {
		if got, err := ParseProtocol(string(p)); got != p || err != nil {
			t.Errorf("%s is read as %q, %v", p, got, err)
		}
		if !slices.Contains(strings.FieldsFunc(Protocols, func(r rune) bool { return r == ' ' || r == ',' }), string(p)) {
			t.Errorf("%q does not name %s", Protocols, p)
		}
	}
	for _, s := range []string{"", "HTTP", "h2", "http3", "tcp "} {
		if p, err := ParseProtocol(s); err == nil || !strings.Contains(err.Error(), Protocols) {
			t.Errorf("%q is read as %q, %v", s, p, err)
		}
	}
}

func TestAProtocolOfTomorrowIsOpaqueBytesToday(t *testing.T) {
	if p, err := ReadProtocol("http3"); p != TCP || err != nil {
		t.Errorf("http3 is read as %q, %v", p, err)
	}
	if p, err := ReadProtocol("grpc"); p != GRPC || err != nil {
		t.Errorf("grpc is read as %q, %v", p, err)
	}
	if _, err := ReadProtocol("no word"); err == nil {
		t.Error("what is no word was read")
	}
}
