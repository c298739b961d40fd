package hooks

import (
	"net/netip"
	"strings"
	"testing"
)

func TestEveryFaultOfAConfigurationIsReported(t *testing.T) {
	err := (&Config{
		Name:      "Upper",
		Captured:  []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		Inbound:   []uint16{0},
		OnFailure: "ajar",
	}).Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`name "Upper"`, "no cgroup", "without an outbound port", "holds 127.0.0.1", "inbound port 0", `"ajar"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
}
