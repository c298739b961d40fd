package federation

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// lines is a log that can be asked what was said.
type lines struct {
	slog.Handler
	mu  *sync.Mutex
	all *[]string
}

func newLines() lines {
	return lines{Handler: slog.DiscardHandler, mu: new(sync.Mutex), all: new([]string)}
}

func (l lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.all = append(*l.all, line)
	return nil
}

// with returns the lines that contain one of the texts.
func (l lines) with(texts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range *l.all {
		if slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(line, s) }) {
			found = append(found, line)
		}
	}
	return found
}

func TestGatewaysThatMeetForTheFirstTimeHaveNothingToComplainOf(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		log := newLines()
		// The disk of east is slow: others ask it before it has read its state file.
		east := w.start(plan{name: "east/east-1", addr: eastAddr, log: log, slow: time.Second})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}, log: log})
		north := w.start(plan{name: "north/north-1", addr: northAddr, join: []string{eastAddr, westAddr}, log: log})
		for _, n := range []*node{east, west, north} {
			n.await("all alive", 10*time.Second, sees(east, west, north))
		}
		time.Sleep(time.Minute)
		if said := log.with("WARN", "ERROR", "refused"); len(said) > 0 {
			t.Errorf("said:\n%s", strings.Join(said, "\n"))
		}
	})
}

func TestASecondClusterOfOneNameIsSentNothingAndBothSidesSayWhy(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		apart := w.mesh.Apart()
		log := newLines()
		first, second := w.mesh.Gateway("west", "west-1"), apart.Gateway("west", "other-1")
		if second.Self().Founding.Compare(first.Self().Founding) < 0 { // of the same second
			first, second = apart.Gateway("west", "west-1"), w.mesh.Gateway("west", "other-1")
		}
		east := w.start(plan{name: "east/east-1", addr: eastAddr, log: log})
		other := w.start(plan{name: "west/other-1", addr: northAddr, join: []string{eastAddr}, identity: second})
		for _, n := range []*node{east, other} {
			n.Own().Publish([]mesh.Export{serving(n.id.Cluster, "shop/orders", 2)})
		}
		east.await("the only west", 10*time.Second, offers("shop/orders", "west"))
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}, identity: first})
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
		servedBy := func(id mesh.GatewayID) func(*View) bool {
			return func(v *View) bool {
				x := v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"})
				return len(x) == 1 && slices.Equal(x[0].Gateways, []mesh.GatewayID{id})
			}
		}
		east.await("the earlier west only", 10*time.Second, servedBy(west.id))
		other.await("that it is refused", 10*time.Second, func(v *View) bool { return v.Refused() != "" && len(v.LocalGateways()) == 1 })
		v := west.await("the other one", 10*time.Second, func(v *View) bool { g := gatewayOf(v, other.id); return g != nil && g.Refused != "" })
		if v.Refused() != "" || len(v.LocalGateways()) != 1 {
			t.Errorf("the earlier one says of itself %q and tells its sidecars %+v", v.Refused(), v.LocalGateways())
		}
		if said := log.with("two clusters have one name"); len(said) != 1 {
			t.Errorf("east said %q", said)
		}
		west.leave()
		east.await("the only west again", 10*time.Second, servedBy(other.id))
		other.await("that it is refused no more", 10*time.Second, func(v *View) bool { return v.Refused() == "" })
	})
}
