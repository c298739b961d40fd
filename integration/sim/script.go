package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const settleStep = 20 * time.Millisecond

// run executes one command line and returns what it prints.
func (w *world) run(line string) (string, error) {
	words := strings.Fields(line)
	args, options := words[1:], map[string]string{}
	for len(args) > 0 && (strings.Contains(args[len(args)-1], "=") || args[len(args)-1] == "export") {
		k, v, _ := strings.Cut(args[len(args)-1], "=")
		options[k] = v
		args = args[:len(args)-1]
	}
	commands := map[string]struct {
		args int
		run  func(args []string, options map[string]string) (string, error)
	}{
		"cluster": {1, w.cmdCluster}, "service": {2, w.cmdService}, "settle": {1, w.cmdSettle},
		"dial": {2, w.cmdDial}, "partition": {2, w.cmdPartition}, "heal": {2, w.cmdHeal},
		"kill": {1, w.cmdKill}, "start": {1, w.cmdStart}, "wait": {1, w.cmdWait}, "show": {1, w.cmdShow},
	}
	c, ok := commands[words[0]]
	if !ok {
		return "", fmt.Errorf("unknown command %q", words[0])
	}
	if len(args) != c.args {
		return "", fmt.Errorf("%s takes %d arguments, got %v", words[0], c.args, args)
	}
	return c.run(args, options)
}

func (w *world) cmdCluster(args []string, options map[string]string) (string, error) {
	gateways, rtt := 1, time.Duration(0)
	var err error
	if o, ok := options["gateways"]; ok {
		if gateways, err = strconv.Atoi(o); err != nil {
			return "", err
		}
	}
	if o, ok := options["rtt"]; ok {
		if rtt, err = time.ParseDuration(o); err != nil {
			return "", err
		}
	}
	return "", w.addCluster(mesh.ClusterName(args[0]), gateways, rtt)
}

func (w *world) cmdService(args []string, options map[string]string) (string, error) {
	c, err := w.cluster(args[0])
	if err != nil {
		return "", err
	}
	name, err := mesh.ParseServiceName(args[1])
	if err != nil {
		return "", err
	}
	port, err := strconv.ParseUint(options["port"], 10, 16)
	if err != nil {
		return "", fmt.Errorf("port: %w", err)
	}
	ready, err := strconv.Atoi(options["ready"])
	if err != nil {
		return "", fmt.Errorf("ready: %w", err)
	}
	total := ready
	if o, ok := options["of"]; ok {
		if total, err = strconv.Atoi(o); err != nil {
			return "", fmt.Errorf("of: %w", err)
		}
	}
	_, export := options["export"]
	p := mesh.ServicePort{Port: uint16(port), Protocol: mesh.TCP, Exported: export}
	for i := range total {
		p.Endpoints = append(p.Endpoints, mesh.Endpoint{
			Instance: fmt.Sprintf("%s-%d", name.Name, i+1), Address: fmt.Sprintf("%s-%d.%s:15008", name.Name, i+1, c.name),
			Ready: i < ready, Weight: 1, Identity: c.workload.ID().String(),
		})
	}
	old, _ := c.services.Snapshot()
	services := slices.DeleteFunc(slices.Clone(old), func(s discovery.Service) bool { return s.Name == name })
	services = append(services, discovery.Service{Name: name, Ports: []mesh.ServicePort{p}})
	slices.SortFunc(services, func(a, b discovery.Service) int { return a.Name.Compare(b.Name) })
	c.services.Set(services)
	return "", nil
}

func (w *world) cmdSettle(args []string, _ map[string]string) (string, error) {
	limit, err := time.ParseDuration(args[0])
	if err != nil {
		return "", err
	}
	for end := time.Now().Add(limit); ; time.Sleep(settleStep) {
		missing := w.unsettled()
		if missing == "" {
			return "settled", nil
		}
		if time.Now().After(end) {
			return "not settled: " + missing, nil
		}
	}
}

func (w *world) cmdDial(args []string, options map[string]string) (string, error) {
	c, err := w.cluster(args[0])
	if err != nil {
		return "", err
	}
	service, err := mesh.ParseServiceName(args[1])
	if err != nil {
		return "", err
	}
	limit, err := time.ParseDuration(options["within"])
	if err != nil {
		return "", fmt.Errorf("within: %w", err)
	}
	began := time.Now()
	answer, err := w.dial(c, service)
	if err != nil {
		answer = "broken: " + err.Error()
	}
	if took := time.Since(began); took > limit {
		answer += fmt.Sprintf(", after %v", took)
	}
	return answer, nil
}

func (w *world) cmdPartition(args []string, _ map[string]string) (string, error) {
	return w.setPartition(args, true)
}

func (w *world) cmdHeal(args []string, _ map[string]string) (string, error) {
	return w.setPartition(args, false)
}

func (w *world) setPartition(args []string, cut bool) (string, error) {
	a, err := w.cluster(args[0])
	if err != nil {
		return "", err
	}
	b, err := w.cluster(args[1])
	if err != nil {
		return "", err
	}
	w.net.partition(a.number(w), b.number(w), cut)
	return "", nil
}

func (w *world) cmdKill(args []string, _ map[string]string) (string, error) {
	g, err := w.gateway(args[0])
	if err != nil {
		return "", err
	}
	if g.gateway == nil {
		return "", fmt.Errorf("%s is dead", g.id)
	}
	g.kill()
	return "", nil
}

func (w *world) cmdStart(args []string, _ map[string]string) (string, error) {
	g, err := w.gateway(args[0])
	if err != nil {
		return "", err
	}
	return "", w.start(g)
}

func (w *world) cmdWait(args []string, _ map[string]string) (string, error) {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return "", err
	}
	time.Sleep(d)
	return "", nil
}

func (w *world) cmdShow(args []string, _ map[string]string) (string, error) {
	c, err := w.cluster(args[0])
	if err != nil {
		return "", err
	}
	if c.gateways[0].gateway == nil {
		return "dead", nil
	}
	var b strings.Builder
	s := c.gateways[0].gateway.Status()
	for _, g := range s.Gateways {
		fmt.Fprintf(&b, "gateway %s: tunnel %s, gossip %s\n", g.ID, g.Tunnel, g.Gossip)
	}
	for _, svc := range s.Services {
		for _, in := range svc.Clusters {
			reach := ""
			if !in.Reachable {
				reach = ", out of reach"
			}
			fmt.Fprintf(&b, "service %s in %s: %d of %d ready%s\n", svc.Service, in.Cluster, in.Ready, in.Total, reach)
		}
	}
	for _, o := range s.Origins {
		if o.Stale {
			fmt.Fprintf(&b, "catalog of %s: stale\n", o.Origin)
		}
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
