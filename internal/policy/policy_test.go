package policy

import (
	"fmt"
	"testing"
)

func TestAMethodInLowerCaseIsAFaultSinceItWouldMatchNone(t *testing.T) {
	p := Policy{Namespace: "shop", Name: "a", Action: Deny, Rules: []Rule{{Methods: []string{"DELETE", "get"}}}}
	var faults []string
	p.Check(func(key, format string, args ...any) { faults = append(faults, key+": "+fmt.Sprintf(format, args...)) })
	want := `rules[0].methods[1]: "get": methods are in upper case, and this would match none: write GET`
	if len(faults) != 1 || faults[0] != want {
		t.Errorf("%q, want %q", faults, want)
	}
}
