package netns

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

// What the load prints.
const (
	byMesh   = "nginx in west"
	directly = "directly"
	refused  = "refused"
)

// enough is how many equal answers in a row say what holds now.
const enough = 100

// killable is a host with a sidecar that captures a load it did not start.
type killable struct {
	sidecar   *process.Process
	addresses []string
	wire      *wire
	load      *load
}

// ready waits until the sidecar of a host is: what ran in its cgroup before that would
// not be captured.
func (h *host) ready(t *testing.T) {
	t.Helper()
	err := harness.Eventually(func() error {
		_, err := h.page("readyz")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newKillable(t *testing.T, name string, number int, onFailure string) *killable {
	t.Helper()
	h := theWorld(t).guest(t, name, number)
	argv, err := h.sidecar(name, intercepting(name, "mode: ebpf, onFailure: "+onFailure))
	if err != nil {
		t.Fatal(err)
	}
	k := &killable{wire: h.tap(t)}
	if k.sidecar, err = h.start(name, argv...); err != nil {
		t.Fatal(err)
	}
	h.ready(t)
	k.addresses = h.addresses(t, name)
	k.load = h.loadOn(t, name, k.addresses)
	return k
}

// restart starts the killed sidecar again and waits until it captures everything.
func (k *killable) restart(t *testing.T) {
	t.Helper()
	begin := time.Now()
	if err := k.sidecar.Start(spawner); err != nil {
		t.Fatal(err)
	}
	t.Logf("captured again %v after the restart", k.load.all(t, byMesh, enough).Sub(begin).Round(time.Millisecond))
	if again := k.wire.host.addresses(t, k.sidecar.Name); !slices.Equal(again, k.addresses) {
		t.Errorf("orders.shop.mesh has the addresses %v after the restart, before it had %v", again, k.addresses)
	}
}

func TestNotOnePacketLeavesWhenTheSidecarIsKilledAndFailureIsClosed(t *testing.T) {
	k := newKillable(t, "closed", 13, "closed")
	for range 5 {
		k.load.all(t, byMesh, enough)
		k.sidecar.Kill()
		k.load.all(t, refused, enough)
		k.restart(t)
	}
	if n := k.wire.count(t); n != (seen{}) {
		t.Errorf("%+v went to virtual addresses on the wire", n)
	}
	if n := k.load.count(directly); n > 0 {
		t.Errorf("%d answers came directly", n)
	}
}

func TestTrafficGoesDirectlyWhenTheSidecarIsKilledAndFailureIsOpen(t *testing.T) {
	k := newKillable(t, "open", 14, "open")
	k.load.all(t, byMesh, enough)
	if n := k.wire.count(t); n != (seen{}) {
		t.Errorf("%+v went to virtual addresses on the wire beside a sidecar", n)
	}
	k.sidecar.Kill()
	k.load.all(t, directly, enough)
	if n := k.wire.count(t); n.syns < enough {
		t.Errorf("without a sidecar %+v went out on the wire, want %d SYNs and more", n, enough)
	}
	k.restart(t)
	before := k.wire.count(t)
	k.load.all(t, byMesh, enough)
	if after := k.wire.count(t); after.syns != before.syns {
		t.Errorf("beside the restarted sidecar %d SYNs became %d on the wire", before.syns, after.syns)
	}
	if n, under := k.load.count(refused), len(k.addresses); n > under {
		t.Errorf("%d connections were refused, and no more than %d were under way when the sidecar was killed", n, under)
	}
}
