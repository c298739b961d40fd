package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

const (
	trustDomain = "demo.isthmus.example"
	authorityOf = 24 * time.Hour
	// certificateOf is so short that every certificate is renewed while the demo runs.
	certificateOf = time.Minute
)

var (
	clusters       = []string{"east", "west", "north"}
	remoteClusters = clusters[1:]
	service        = mesh.ServiceName{Namespace: "shop", Name: "orders"}
)

// layout is which processes there are and where.
type layout struct {
	dir       string
	program   string // this one, which every process runs
	cas       []*ca
	gateways  []*gateway
	instances []*instance
	caller    *instance
}

// ca is the process that issues one cluster's certificates.
type ca struct {
	*process.Process
	cluster     string
	grpc, admin string
}

// gateway is one gateway process and its addresses.
type gateway struct {
	*process.Process
	cluster                  string
	tunnel, mesh, xds, admin string
}

// instance is one sidecar process with the program that it started, if any.
type instance struct {
	*process.Process
	cluster                          string
	inbound, target, admin, upstream string
}

const caPorts, gatewayPorts, instancePorts = 2, 4, 4

// newLayout chooses ports and writes certificates and config files.
func newLayout(dir string) (*layout, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &layout{dir: dir, program: program}
	const perCluster = 2
	ports, err := process.NewPorts().Take(len(clusters)*(caPorts+perCluster*(gatewayPorts+instancePorts)) + instancePorts)
	if err != nil {
		return nil, err
	}
	next := func() string { p := ports[0]; ports = ports[1:]; return p }

	for _, c := range clusters {
		l.cas = append(l.cas, &ca{Process: l.process("ca-" + c), cluster: c, grpc: next(), admin: next()})
		for n := range perCluster {
			name := fmt.Sprintf("%s-%d", c, n+1)
			l.gateways = append(l.gateways, &gateway{Process: l.process("gateway-" + name), cluster: c,
				tunnel: next(), mesh: next(), xds: next(), admin: next()})
			l.instances = append(l.instances, &instance{Process: l.process(fmt.Sprintf("orders-%s", name)), cluster: c,
				inbound: next(), target: next(), admin: next()})
		}
	}
	l.caller = &instance{Process: l.process("caller"), cluster: "east", inbound: next(), admin: next(), upstream: next()}

	root, err := identity.NewRoot(trustDomain, authorityOf)
	if err != nil {
		return nil, err
	}
	for _, ca := range l.cas {
		authority, err := root.NewCluster(mesh.ClusterName(ca.cluster), []string{service.Namespace}, authorityOf)
		if err != nil {
			return nil, err
		}
		if err := l.writeCluster(ca, authority); err != nil {
			return nil, fmt.Errorf("write the demo's files: %w", err)
		}
	}
	return l, nil
}

func (l *layout) process(name string) *process.Process {
	return &process.Process{Name: name, Log: filepath.Join(l.dir, name+".log")}
}

// writeCluster writes the files of one cluster's processes.
func (l *layout) writeCluster(ca *ca, authority *identity.Authority) error {
	c := ca.cluster
	if err := authority.Save(l.dir, true); err != nil {
		return err
	}
	var xds []string
	for _, g := range l.gatewaysOf(c) {
		xds = append(xds, g.xds)
	}
	err := l.writeConfig(ca.Process, "ca.yaml", fmt.Sprintf(`name: %s
authority: %s
gateways: [%s]
ttl: %s
state: %s
listen: {grpc: "%s", admin: "%s"}
`, ca.Name, filepath.Join(l.dir, c), strings.Join(xds, ", "), certificateOf, l.file(ca.Name, "state"), ca.grpc, ca.admin))
	if err != nil {
		return err
	}
	ca.Args = []string{l.program, "ca", "-c", l.file(ca.Name, "ca.yaml")}
	identityOf := func(p *process.Process) string {
		return fmt.Sprintf("{ca: [%s], token: %s}", ca.grpc, l.file(p.Name, "token"))
	}
	for i, g := range l.gatewaysOf(c) {
		join := l.gateways[0].tunnel // one address of any other gateway is enough
		if g == l.gateways[0] {
			join = ""
		}
		name := fmt.Sprintf("%s-%d", c, i+1)
		err := l.write(g.Process, ca, authority, identity.ID{Gateway: mesh.GatewayName(name)}, fmt.Sprintf(`cluster: %s
name: %s
advertise: %s
meshAddress: %s
join: [%s]
identity: %s
state: %s
listen: {tunnel: "%s", mesh: "%s", xds: "%s", admin: "%s"}
`, c, name, g.tunnel, g.mesh, join, identityOf(g.Process), l.file(g.Name, "state"), g.tunnel, g.mesh, g.xds, g.admin))
		if err != nil {
			return err
		}
		g.Args = []string{l.program, "gateway", "-c", l.file(g.Name, "gateway.yaml")}
	}
	for _, i := range l.instancesOf(c) {
		err := l.write(i.Process, ca, authority, workload(service), fmt.Sprintf(`gateways: [%s]
identity: %s
state: %s
service:
  name: %s
  port: 80
  target: %s
  protocol: http
  instance: %s
  advertise: %s
  export: true
listen: {inbound: "%s", admin: "%s"}
`, strings.Join(xds, ", "), identityOf(i.Process), l.file(i.Name, "state"), service, i.target, i.Name, i.inbound, i.inbound, i.admin))
		if err != nil {
			return err
		}
		i.Args = []string{l.program, "sidecar", "-c", l.file(i.Name, "sidecar.yaml"), "--",
			l.program, "demo", "serve", "--listen", i.target, "--cluster", c, "--instance", i.Name}
	}
	if c != l.caller.cluster {
		return nil
	}
	caller := mesh.ServiceName{Namespace: "shop", Name: "caller"}
	l.caller.Args = []string{l.program, "sidecar", "-c", l.file(l.caller.Name, "sidecar.yaml")}
	return l.write(l.caller.Process, ca, authority, workload(caller), fmt.Sprintf(`gateways: [%s]
identity: %s
state: %s
upstreams:
  - {listen: "%s", service: %s, port: 80}
listen: {admin: "%s"}
`, strings.Join(xds, ", "), identityOf(l.caller.Process), l.file(l.caller.Name, "state"), l.caller.upstream, service, l.caller.admin))
}

// workload is who a service's instances are.
func workload(s mesh.ServiceName) identity.ID {
	return identity.ID{Namespace: s.Namespace, ServiceAccount: s.Name}
}

// write writes one process's token and config file.
func (l *layout) write(p *process.Process, ca *ca, authority *identity.Authority, id identity.ID, config string) error {
	file := "sidecar.yaml"
	if id.IsGateway() {
		file = "gateway.yaml"
	}
	if err := l.writeConfig(p, file, config); err != nil {
		return err
	}
	token, _, err := authority.NewToken(id, ca.Name, identity.DefaultTokenTTL)
	if err != nil {
		return err
	}
	return os.WriteFile(l.file(p.Name, "token"), []byte(token+"\n"), 0o600)
}

// writeConfig writes one process's config file and makes its state directory.
func (l *layout) writeConfig(p *process.Process, file, config string) error {
	if err := os.MkdirAll(l.file(p.Name, "state"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(l.file(p.Name, file), []byte(config), 0o600)
}

func (l *layout) file(process, name string) string { return filepath.Join(l.dir, process, name) }

func (l *layout) gatewaysOf(cluster string) []*gateway {
	var gs []*gateway
	for _, g := range l.gateways {
		if g.cluster == cluster {
			gs = append(gs, g)
		}
	}
	return gs
}

func (l *layout) instancesOf(cluster string) []*instance {
	var is []*instance
	for _, i := range l.instances {
		if i.cluster == cluster {
			is = append(is, i)
		}
	}
	return is
}

// clusterOf returns the processes that make up a cluster.
func (l *layout) clusterOf(cluster string) []*process.Process {
	var ps []*process.Process
	for _, ca := range l.cas {
		if ca.cluster == cluster {
			ps = append(ps, ca.Process)
		}
	}
	for _, g := range l.gatewaysOf(cluster) {
		ps = append(ps, g.Process)
	}
	for _, i := range l.instancesOf(cluster) {
		ps = append(ps, i.Process)
	}
	return ps
}

// all returns every process, in the order in which they are started.
func (l *layout) all() []*process.Process {
	var ps []*process.Process
	for _, c := range clusters {
		ps = append(ps, l.clusterOf(c)...)
	}
	return append(ps, l.caller.Process)
}

// certificates asks every gateway and sidecar until when its certificate is valid; those
// that do not answer are left out.
func (l *layout) certificates(ctx context.Context) map[string]time.Time {
	ends := map[string]time.Time{}
	ask := func(name, admin string) {
		switch a, err := status.Ask(ctx, admin); {
		case err != nil:
		case a.Gateway != nil:
			ends[name] = a.Gateway.Certificate.NotAfter
		case a.Sidecar != nil:
			ends[name] = a.Sidecar.Certificate.NotAfter
		}
	}
	for _, g := range l.gateways {
		ask(g.Name, g.admin)
	}
	for _, i := range append(l.instances[:len(l.instances):len(l.instances)], l.caller) {
		ask(i.Name, i.admin)
	}
	return ends
}

func (l *layout) callerURL() string { return "http://" + l.caller.upstream + "/" }

// missing asks every gateway for its status and returns what it does not see yet.
func (l *layout) missing(ctx context.Context) []string {
	const perCluster = 2
	var missing []string
	for _, g := range l.gateways {
		s, err := status.Ask(ctx, g.admin)
		if err != nil || s.Gateway == nil {
			missing = append(missing, g.Name)
			continue
		}
		up := 0
		for _, p := range s.Gateway.Gateways {
			if p.Tunnel != "down" && p.Gossip == "alive" {
				up++
			}
		}
		ready := map[mesh.ClusterName]uint32{}
		for _, svc := range s.Gateway.Services {
			for _, in := range svc.Clusters {
				if svc.Service == service && in.Reachable {
					ready[in.Cluster] = in.Ready
				}
			}
		}
		for _, c := range clusters {
			if ready[mesh.ClusterName(c)] < perCluster {
				missing = append(missing, g.Name+" to see "+c)
			}
		}
		if up < len(l.gateways) {
			missing = append(missing, fmt.Sprintf("%s to reach %d more gateways", g.Name, len(l.gateways)-up))
		}
	}
	if len(missing) > 3 {
		missing = append(missing[:3], fmt.Sprintf("%d more", len(missing)-3))
	}
	return missing
}

// writeHints says what to try while the demo keeps running.
func (l *layout) writeHints(w io.Writer) {
	g, i := l.gateways[0], l.instances[0]
	fmt.Fprintf(w, `
Everything keeps running until you press Ctrl-C. Try:

  curl http://%[1]s/                                   # the caller's sidecar: %[2]s, wherever it runs
  isthmus status --admin %[3]s
  isthmus status --admin %[3]s -o json
  curl http://%[3]s/metrics
  curl http://%[4]s/status                             # what one sidecar knows

Configs, tokens, state and logs are in %[5]s.
`, l.caller.upstream, service, g.admin, i.admin, l.dir)
	fmt.Fprintf(w, `
A program with a mesh certificate needs no sidecar to call a service:

  curl -p -x http://%[1]s --cacert %[2]s --cert %[3]s https://%[4]s:80/
`, g.mesh, filepath.Join(l.dir, "east", "roots.pem"), l.file("caller", "state/sidecar-identity.pem"), service.Host())
}
