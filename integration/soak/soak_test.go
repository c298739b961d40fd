package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/interception"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" { // as main does
		fmt.Fprintln(os.Stderr, play(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// The short version of the soak: what it breaks is the same each time.
func TestNoRequestIsLostThatNeedNotBe(t *testing.T) {
	if os.Geteuid() != 0 {
		harness.Lacking(t, "network namespaces need root")
	}
	if err := interception.Probe().Err(); err != nil {
		harness.Lacking(t, err.Error())
	}
	for _, name := range []string{"ip", "nsenter"} {
		harness.Tool(t, name)
	}
	faults, err := chosenFaults("gateway-kill,gateway-term,sidecar-kill,sidecar-term,program-kill,program-freeze,wan-blackhole,wan-oneway")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	good, err := soak(t.Context(), options{
		seed: 4, length: 20 * time.Second, warmUp: 5 * time.Second, cool: 6 * time.Second, faults: faults,
	}, &out, func(a ...any) { t.Log(a...) })
	if err != nil || !good {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestFaultsAreChosenByName(t *testing.T) {
	for names, want := range map[string]int{"all": len(faultKinds), "wan-mtu,lan-down": 2, "all,-wan-mtu": len(faultKinds) - 1, "-wan-mtu": len(faultKinds) - 1} {
		if got, err := chosenFaults(names); err != nil || len(got) != want {
			t.Errorf("%s: %d faults, %v", names, len(got), err)
		}
	}
	if _, err := chosenFaults("flood"); err == nil {
		t.Error("a fault that nobody knows is chosen")
	}
}
