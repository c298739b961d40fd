package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

// excuse is what a caller may be told of while a fault lasts, and until [aftermath]
// after the mesh has settled.
type excuse int

const (
	// nothing: whoever is ended gently, reloads or renews fails no request of any kind.
	nothing excuse = iota
	// inFlight: whoever asked a process or was on a path that is no more may be told
	// so, where the mesh must not repeat: a request that is not idempotent, and one
	// whose answer has begun.
	inFlight
	// program is inFlight, and the end of a TCP connection, which is all that a killed
	// program says.
	program
	// starved is that the machine gave us no time: everything was frozen at once, which
	// no guarantee covers. What comes must be right.
	starved
	// own is a fault of the caller's own sidecar: of that caller's requests nothing
	// is expected but that what comes is right.
	own
)

// fault is one that happened.
type fault struct {
	kind   string
	target string // host
	detail string
	excuse excuse
	begin  time.Time
	healed time.Time // what was done is undone
	until  time.Time // the mesh had settled; zero: not yet
	err    error
}

func (f *fault) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s of %s %s", f.kind, f.target, f.detail))
}

// faultKind is one way to break a node. inject breaks it, waits and mends it.
type faultKind struct {
	name   string
	nodes  func(*world) []*node
	ends   bool // it ends the node's process, which a spared one is spared
	excuse func(*node) excuse
	inject func(*injector, *node, *fault) error
}

func always(e excuse) func(*node) excuse { return func(*node) excuse { return e } }

// ofSidecar is the excuse of a service's sidecar that is killed: what it has started
// dies with it.
func ofSidecar(n *node) excuse {
	if n.program == nil {
		return program
	}
	return inFlight
}

func gateways(w *world) []*node { return w.gateways }
func sidecars(w *world) []*node { return w.services }
func callers(w *world) []*node  { return w.callers }

// besides are the nodes whose program is not their sidecar's.
func besides(w *world) []*node {
	return slices.DeleteFunc(slices.Clone(w.services), func(n *node) bool { return n.program == nil })
}

// faultKinds are all of them. One is there at a time, and the next one begins when the
// mesh has settled: more than one at a time can take both instances of a cluster, or
// both gateways, and then there is nobody to ask.
var faultKinds = []faultKind{
	{"gateway-kill", gateways, true, always(inFlight), (*injector).kill},
	{"gateway-term", gateways, true, always(nothing), (*injector).terminate},
	{"gateway-freeze", gateways, false, always(inFlight), (*injector).freeze},
	{"gateway-reload", gateways, false, always(nothing), (*injector).reload},
	{"gateway-renew", gateways, false, always(nothing), (*injector).renew},
	{"wan-mtu", gateways, false, always(inFlight), (*injector).lowerMTU},
	{"wan-blackhole", gateways, false, always(inFlight), (*injector).dropLarge},
	{"wan-down", gateways, false, always(inFlight), (*injector).wanDown},
	{"wan-oneway", gateways, false, always(inFlight), (*injector).oneWay},
	{"lan-down", gateways, false, always(inFlight), (*injector).lanDown},
	{"sidecar-kill", sidecars, true, ofSidecar, (*injector).kill},
	{"sidecar-term", sidecars, true, always(nothing), (*injector).terminate},
	{"sidecar-freeze", sidecars, false, always(inFlight), (*injector).freeze},
	{"sidecar-reload", sidecars, false, always(nothing), (*injector).reload},
	{"sidecar-renew", sidecars, false, always(nothing), (*injector).renew},
	{"sidecar-down", sidecars, false, always(inFlight), (*injector).lanDown},
	{"program-kill", besides, false, always(program), (*injector).killProgram},
	{"program-term", besides, false, always(inFlight), (*injector).terminateProgram},
	{"program-freeze", besides, false, always(inFlight), (*injector).freezeProgram},
	{"caller-kill", callers, true, always(own), (*injector).kill},
	{"caller-term", callers, true, always(own), (*injector).terminate},
	{"caller-freeze", callers, false, always(own), (*injector).freeze},
	{"caller-reload", callers, false, always(nothing), (*injector).reload},
	{"caller-renew", callers, false, always(nothing), (*injector).renew},
}

// chosenFaults are those that names say, all for "all"; -NAME leaves one out of all.
func chosenFaults(names string) ([]faultKind, error) {
	known := func(name string) bool {
		return slices.ContainsFunc(faultKinds, func(k faultKind) bool { return k.name == name })
	}
	with, without := map[string]bool{}, map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		bare := strings.TrimPrefix(name, "-")
		switch {
		case name == "all":
		case !known(bare):
			var all []string
			for _, k := range faultKinds {
				all = append(all, k.name)
			}
			return nil, fmt.Errorf("no fault is called %q; there are %s", bare, strings.Join(all, ", "))
		case bare != name:
			without[bare] = true
		default:
			with[name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(faultKinds), func(k faultKind) bool {
		return without[k.name] || len(with) > 0 && !with[k.name]
	}), nil
}

// injector makes faults, by one goroutine.
type injector struct {
	w   *world
	rng *rand.Rand // what is broken, and for how long, follows from the seed
	ctx context.Context
}

func (i *injector) between(least, most time.Duration) time.Duration {
	return least + time.Duration(i.rng.Int64N(int64(most-least)))
}

func (i *injector) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-i.ctx.Done(): // what is broken is mended all the same
	}
}

// spare chooses one node of each role that is never ended.
func (i *injector) spare() {
	for _, nodes := range [][]*node{i.w.gateways, i.w.services, i.w.callers} {
		nodes[i.rng.IntN(len(nodes))].spared = true
	}
}

// next makes a fault of a kind and returns when the mesh has settled again. began is
// called before anything is done.
func (i *injector) next(k faultKind, began func(*fault)) {
	nodes := slices.DeleteFunc(slices.Clone(k.nodes(i.w)), func(n *node) bool { return k.ends && n.spared })
	n := nodes[i.rng.IntN(len(nodes))]
	f := &fault{kind: k.name, target: n.Name, excuse: k.excuse(n), begin: time.Now()}
	began(f)
	f.err = k.inject(i, n, f)
	f.healed = time.Now()
	f.err = errors.Join(f.err, i.w.settled(context.WithoutCancel(i.ctx), settleLimit))
	f.until = time.Now()
}

// again starts what has ended, after a while.
func (i *injector) again(p *process.Process, f *fault) error {
	absence := i.between(0, longestAbsence)
	f.detail += fmt.Sprintf("for %v", absence.Round(time.Millisecond))
	i.wait(absence)
	return p.Start(i.w.spawner)
}

func (i *injector) kill(n *node, f *fault) error {
	n.isthmus.Kill()
	return i.again(n.isthmus, f)
}

// endLimit is beyond the drain of isthmus and of the programs.
const endLimit = 25 * time.Second

func (i *injector) terminate(n *node, f *fault) error {
	if err := n.isthmus.EndAlone(syscall.SIGTERM, endLimit); err != nil {
		return err
	}
	f.detail = fmt.Sprintf("ended in %v, ", time.Since(f.begin).Round(time.Millisecond))
	return i.again(n.isthmus, f)
}

// during undoes what was done after some seconds.
func (i *injector) during(f *fault, do, undo func() error) error {
	if err := do(); err != nil {
		return err
	}
	d := i.between(shortest, longest)
	f.detail += fmt.Sprintf("for %v", d.Round(time.Millisecond))
	i.wait(d)
	return undo()
}

func signals(p *process.Process, s syscall.Signal) func() error {
	return func() error { return p.Signal(s) }
}

func (i *injector) freeze(n *node, f *fault) error {
	return i.during(f, signals(n.isthmus, syscall.SIGSTOP), signals(n.isthmus, syscall.SIGCONT))
}

func (i *injector) killProgram(n *node, f *fault) error {
	n.program.Kill()
	return i.again(n.program, f)
}

func (i *injector) terminateProgram(n *node, f *fault) error {
	if err := n.program.End(syscall.SIGTERM, endLimit); err != nil {
		return err
	}
	return i.again(n.program, f)
}

func (i *injector) freezeProgram(n *node, f *fault) error {
	return i.during(f, signals(n.program, syscall.SIGSTOP), signals(n.program, syscall.SIGCONT))
}

// reload has a process read its changed configuration, by a signal or by the command.
func (i *injector) reload(n *node, f *fault) error {
	n.reloads++
	if _, err := n.configure(); err != nil {
		return err
	}
	if i.rng.IntN(2) == 0 {
		f.detail = "by SIGHUP"
		if err := syscall.Kill(n.isthmus.PID(), syscall.SIGHUP); err != nil {
			return err
		}
		i.wait(time.Second)
		return nil
	}
	f.detail = "by command"
	out, err := n.Command(i.ctx, n.w.binary, "reload", "--admin", n.admin).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && strings.Contains(string(out), "restart") {
		err = nil // not every key can be changed
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (i *injector) renew(n *node, _ *fault) error {
	if err := n.certify(); err != nil {
		return err
	}
	i.wait(2 * time.Second)
	return nil
}

// onHost and onSwitch change a link on one of its two sides.
func onHost(n *node, line string, a ...any) func() error {
	return func() error { return hosts.IP(hosts.Namespace(n.Name), fmt.Sprintf(line, a...)) }
}

func onSwitch(line string, a ...any) func() error {
	return func() error { return hosts.IP(hosts.Namespace(hosts.TheSwitch), fmt.Sprintf(line, a...)) }
}

// lowerMTU has the gateway's own interface refuse large packets.
func (i *injector) lowerMTU(n *node, f *fault) error {
	mtu := 1280 + i.rng.IntN(170)
	f.detail = fmt.Sprintf("to %d ", mtu)
	return i.during(f, onHost(n, "link set wan0 mtu %d", mtu), onHost(n, "link set wan0 mtu 1500"))
}

// dropLarge has the network drop large packets to and from the gateway, and tell
// nobody. The switch's end of the cable drops what is larger than it takes.
func (i *injector) dropLarge(n *node, f *fault) error {
	mtu := 1280 + i.rng.IntN(170)
	f.detail = fmt.Sprintf("above %d ", mtu)
	return i.during(f, onSwitch("link set %sw mtu %d", n.Name, mtu), onSwitch("link set %sw mtu 1500", n.Name))
}

func (i *injector) wanDown(n *node, f *fault) error {
	return i.during(f, onSwitch("link set %sw down", n.Name), onSwitch("link set %sw up", n.Name))
}

func (i *injector) lanDown(n *node, f *fault) error {
	return i.during(f, onSwitch("link set %s down", n.Name), onSwitch("link set %s up", n.Name))
}

// oneWay has nothing arrive that the gateway sends to one other, which still reaches
// it: frames to a card that does not exist.
func (i *injector) oneWay(n *node, f *fault) error {
	var others []*node
	for _, g := range i.w.gateways {
		if g.Cluster != n.Cluster {
			others = append(others, g)
		}
	}
	to := others[i.rng.IntN(len(others))]
	f.detail = "to " + to.Name + " "
	return i.during(f, onHost(n, "neigh replace %s lladdr 02:00:00:00:00:01 dev wan0 nud permanent", wan.V4(to.wan)),
		onHost(n, "neigh delete %s dev wan0", wan.V4(to.wan)))
}
