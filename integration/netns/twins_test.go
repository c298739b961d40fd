package netns

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

func TestTwoSidecarsOnAHostCaptureEachItsOwnProgram(t *testing.T) {
	curl := harness.Tool(t, "curl")
	h := theWorld(t).guest(t, "twins", 15)
	alice := h.capture(t, "alice", "mode: ebpf", "")
	bob := h.capture(t, "bob", "mode: ebpf, outboundPort: 16001, dnsPort: 16053", `listen: {admin: "127.0.0.1:16020"}`)
	for _, c := range []*captured{alice, bob, alice} {
		got := c.run(t, argv(curl, "-sS", "http://orders.shop.mesh/"))
		if want := "/ns/shop/sa/" + c.Name; !strings.Contains(got, want) {
			t.Errorf("nginx answered %s with %q, want %q in it", c.Name, got, want)
		}
	}

	url := "http://" + h.addresses(t, "bob")[0] + "/"
	alice.Kill()
	if out, err := h.ask("alice", curl, "-sS", url); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("in alice's cgroup and without her sidecar curl printed %q (%v), want a refusal", out, err)
	}
	if got := bob.run(t, argv(curl, "-sS", url)); !strings.HasPrefix(got, byMesh) {
		t.Errorf("after the end of alice's sidecar bob's curl printed %q", got)
	}
	out, err := h.Command(t.Context(), curl, "-sS", "-m", "20", url).CombinedOutput()
	if err != nil || string(out) != directly+"\n" {
		t.Errorf("curl in nobody's cgroup printed %q (%v), want %q", out, err, directly)
	}
}
