package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Updating is for how long a catalog that is behind is being fetched rather
// than stale: changes are coalesced for up to a second.
const Updating = 2 * time.Second

// Certificate is a process's own.
type Certificate struct {
	NotAfter time.Time `json:"not_after"`
	WarnFrom time.Time `json:"warn_from"` // it should have been replaced by then
	// Why there is no newer one; empty: none is needed.
	Error string `json:"error,omitempty"`
}

// problem says that the certificate has ended or should have been replaced; "" when
// neither is so.
func (c Certificate) problem(now time.Time) string {
	switch date := c.NotAfter.UTC().Format(time.RFC3339); {
	case !now.Before(c.NotAfter):
		return "its certificate ended " + date
	case !now.Before(c.WarnFrom):
		return "its certificate ends " + date
	}
	return ""
}

// problems is what is wrong, in the order in which it is to be read.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// common adds what can be wrong with either process.
func (p *problems) common(unmet []Condition, c Certificate, stateError string, r *Reload, now time.Time) {
	if len(unmet) > 0 {
		p.add("not ready: %s", Explain(unmet))
	}
	if problem := c.problem(now); problem != "" {
		p.add("%s", problem)
	}
	if c.Error != "" {
		p.add("no newer certificate, the last good one stays in use: %s", c.Error)
	}
	if stateError != "" {
		p.add("what it knows is not kept on disk: %s", stateError)
	}
	if r != nil && !r.OK() {
		p.add("%s", r)
	}
}

// Problems returns everything that is wrong with the mesh as the gateway sees it.
func (g *Gateway) Problems(now time.Time) []string {
	var p problems
	p.common(g.Pending, g.Certificate, g.StateError, g.Reload, now)
	unreachable := p.peers(g)
	for i := range g.Trust {
		if problem := g.Trust[i].problem(now); problem != "" {
			p.add("%s", problem)
		}
	}
	p.catalogs(g, unreachable)
	p.services(g)
	p.policies(g)
	return p
}

// peers adds what keeps gateways from each other, and returns those that are not reached.
func (p *problems) peers(g *Gateway) (unreachable map[mesh.GatewayID]bool) {
	var down []string
	unreachable = map[mesh.GatewayID]bool{}
	for _, peer := range g.Gateways {
		if peer.Tunnel == "down" && !peer.Revoked {
			unreachable[peer.ID] = true
			down = append(down, because(peer.ID.String(), peer.LastError))
		}
	}
	if len(down) > 0 {
		p.add("%s down: %s", plural(len(down), "tunnel"), strings.Join(down, ", "))
	}
	for _, peer := range g.Gateways {
		if peer.Refused != "" && peer.ID != g.Self { // of itself it is in Pending
			p.add("nothing is sent to gateway %s: %s", peer.ID, peer.Refused)
		}
	}
	for _, j := range g.Join {
		if j.Gateway.IsZero() {
			p.add("nobody met at %s", because(j.Address, j.LastError))
		}
	}
	if g.NoAddress != "" {
		p.add("other clusters cannot dial this gateway: %s", g.NoAddress)
	}
	return unreachable
}

// catalogs adds what is wrong with what other gateways say.
func (p *problems) catalogs(g *Gateway, unreachable map[mesh.GatewayID]bool) {
	for _, o := range g.Origins {
		if age := time.Duration(o.Age * float64(time.Second)); o.Stale && age > Updating && !unreachable[o.Origin] {
			p.add("the catalog of %s is stale", o.Origin)
		}
	}
	for _, o := range g.Origins {
		if len(o.LeftOut) > 0 {
			first := o.LeftOut[0]
			p.add("gateway %s offers what does not count, %s of it: %s (%s)", o.Origin, plural(o.LeftOutTotal, "service"), first.Service, first.Why)
		}
	}
	for _, c := range g.NothingImported {
		p.add("of cluster %s nothing counts here: it offers nothing that imports names; [] says that nothing is wanted", c)
	}
}

// services adds what is wrong with what this cluster offers, and how.
func (p *problems) services(g *Gateway) {
	if lost, why := g.Kubernetes.lost(); lost > 0 {
		p.add("the API server %s has told nothing new for %s, and what it said last stays: %s", g.Kubernetes.Server, lost.Round(time.Second), why)
	}
	p.badResources("resource file", g.Faults)
	p.badResources("resource", g.Objects)
	if len(g.LeftOut) > 0 {
		p.add("%s left out of what other clusters are told: %s", plural(len(g.LeftOut), "service"), someOf(g.LeftOut, mesh.ServiceName.String))
	}
	if len(g.Refused) == 1 {
		r := &g.Refused[0]
		p.add("%s may not register as %q: %s", r.Peer, r.Service, r.Error)
	} else if len(g.Refused) > 1 { // why each is, is too long for a verdict
		p.add("%d registrations are refused: %s", len(g.Refused), someOf(g.Refused, func(r RefusedRegistration) string {
			return fmt.Sprintf("%q by %s", r.Service, r.Peer)
		}))
	}
	if len(g.Routes) == 1 {
		r := &g.Routes[0]
		p.add("%s is not in force as it is written for %s: %s", r.Route, r.Parent, r.Error)
	} else if len(g.Routes) > 1 {
		p.add("%d routes are not in force as they are written: %s", len(g.Routes), someOf(g.Routes, func(r BadRoute) string { return r.Route }))
	}
	for _, c := range g.Conflicts {
		var said []string
		for _, cluster := range slices.Sorted(maps.Keys(c.Protocols)) {
			said = append(said, fmt.Sprintf("%s in %s", c.Protocols[cluster], cluster))
		}
		p.add("port %d of %s is %s: only what %s says counts here", c.Port, c.Service, strings.Join(said, ", "), c.InForce)
	}
}

// policies adds rules that are not in force as they read.
func (p *problems) policies(g *Gateway) {
	if len(g.Unjudged) > 0 {
		does := map[string]string{"allow": "does not allow", "deny": "denies"}
		r := &g.Unjudged[0]
		more := ""
		if len(g.Unjudged) > 1 {
			more = fmt.Sprintf(" (and %d more)", len(g.Unjudged)-1)
		}
		p.add("%s rules[%d] asks about requests, and %s has endpoints without a sidecar, whose requests nobody sees: there it %s%s",
			r.Policy, r.Rule, r.Service, does[r.Action], more)
	}
}

// Clusters returns how many clusters the gateway knows of, its own included.
func (g *Gateway) Clusters() int {
	clusters := map[mesh.ClusterName]bool{g.Self.Cluster: true}
	for _, peer := range g.Gateways {
		clusters[peer.ID.Cluster] = true
	}
	return len(clusters)
}

// served names the services beside, each once.
func (s *Sidecar) served() string {
	var names []string
	for _, r := range s.Services {
		if name := r.Service.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " and ")
}

// Problems returns everything that is wrong with what the sidecar may dial and
// with who knows of it.
func (s *Sidecar) Problems(now time.Time) []string {
	var p problems
	p.common(s.Pending, s.Certificate, s.StateError, s.Reload, now)
	said := Explain(s.Pending)
	for _, g := range s.Gateways {
		switch {
		case g.LastError != "" && strings.Contains(said, g.LastError):
		case g.LastError != "":
			p.add("gateway %s: %s", g.Address, g.LastError)
		case len(s.Services) > 0 && !g.Registered && !strings.Contains(said, "registration"):
			p.add("gateway %s does not know of %s here", g.Address, s.served())
		}
	}
	for _, u := range s.Upstreams {
		switch {
		case u.State == "absent":
			p.add("no cluster offers %s", u.Destination)
		case u.State != "known":
			p.add("nothing is known of %s yet", u.Destination)
		case ready(u.Local)+ready(u.Gateways) == 0:
			p.add("no instance of %s is ready", u.Destination)
		}
	}
	return p
}

func ready(hosts []Host) (n int) {
	for _, h := range hosts {
		if h.Ready {
			n++
		}
	}
	return n
}

// someOf lists what fits on a line.
func someOf[T any](all []T, text func(T) string) string {
	const most = 3
	var texts []string
	for _, x := range all[:min(len(all), most)] {
		texts = append(texts, text(x))
	}
	list := strings.Join(texts, ", ")
	if len(all) > most {
		list += fmt.Sprintf(" and %d more", len(all)-most)
	}
	return list
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + " (" + why + ")"
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Verdict is the gateway's state in one line: how much there is, and what is wrong.
func (g *Gateway) Verdict(now time.Time) string {
	return verdict(g.Problems(now), plural(g.Clusters(), "cluster"), plural(len(g.Gateways), "gateway"), plural(len(g.Services), "service"))
}

// Verdict is the sidecar's state in one line.
func (s *Sidecar) Verdict(now time.Time) string {
	return verdict(s.Problems(now), plural(len(s.Gateways), "gateway"), plural(len(s.Upstreams), "upstream"))
}

func verdict(problems []string, counts ...string) string {
	if len(problems) == 0 {
		return strings.Join(counts, ", ") + ": nothing is wrong"
	}
	return counts[0] + ", " + strings.Join(problems, "; ")
}

// badResources tells of resources that are not in force as they are.
func (p *problems) badResources(what string, faults []ResourceFault) {
	if len(faults) == 1 {
		p.add("%s %s is bad: %s", what, faults[0].File, strings.ReplaceAll(faults[0].Error, "\n", ", "))
	} else if len(faults) > 1 { // what is wrong with each is too long for a verdict
		p.add("%d %ss are bad: %s", len(faults), what, someOf(faults, func(f ResourceFault) string { return f.File }))
	}
}
