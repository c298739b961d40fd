package interception

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/interception/hooks"
)

func TestASidecarSaysWhichFurtherAddressesComeToIt(t *testing.T) {
	ways(t, func(t *testing.T, way Way) {
		p := newPod(t)
		p.bring(way, hooks.FailClosed)
		s := p.sidecar()
		for _, c := range []struct{ domain, to, other string }{
			{"4", "10.99.0.2:8080", "10.99.0.2:9090"},
			{"6", "[fd00:99::2]:8080", "[fd00:99::2]:9090"},
		} {
			sees := func(when, to, want string) {
				t.Helper()
				if got := p.program("tcp", c.domain, to); got.Answer != want || got.Peer != to {
					t.Errorf("%s: the program at %s saw %+v, want %q", when, to, got, want)
				}
			}
			sees("before", c.to, "program")
			for range 2 { // saying it again changes nothing
				if got := s.dial("capture " + c.to); got.Err != "" {
					t.Fatalf("capture %s: %s", c.to, got.Err)
				}
				sees("captured", c.to, "asked "+c.to)
			}
			sees("another port", c.other, "program")
			if got := s.dial(c.to); got.Answer != "program" {
				t.Errorf("the sidecar's own connection to %s: %+v", c.to, got)
			}
			if got := s.dial("release " + c.to); got.Err != "" {
				t.Fatalf("release %s: %s", c.to, got.Err)
			}
			sees("released", c.to, "program")
		}
	})
}

func TestASidecarHearsThatNobodyTakesInWhatItSays(t *testing.T) {
	p := newPod(t)
	if got := p.sidecar().dial("capture 10.99.0.2:8080"); got.Err != ErrNotTold.Error() {
		t.Errorf("%+v", got)
	}
}

func TestOnlyTheSidecarSaysWhatIsCaptured(t *testing.T) {
	ways(t, func(t *testing.T, way Way) {
		p := newPod(t)
		p.bring(way, hooks.FailClosed)
		p.sidecar()
		out, stop := p.start(p.child("podtell", "10.99.0.2:8080"))
		defer stop()
		var got seen
		if err := json.NewDecoder(out).Decode(&got); err != nil || got.Err != ErrNotTold.Error() {
			t.Errorf("a program was believed: %+v, %v", got, err)
		}
		if got := p.program("tcp", "4", "10.99.0.2:8080"); got.Answer != "program" {
			t.Errorf("after that: %+v", got)
		}
	})
}

// childPodTell says as the sidecar does, but is not.
func childPodTell(args []string) error {
	return report(seen{}, CaptureAlso(PodTable{OutboundPort: podOutbound, InboundPort: podInbound}, []netip.AddrPort{netip.MustParseAddrPort(args[0])}))
}
