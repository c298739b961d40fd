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
	trustDomain   = "demo.isthmus.example"
	certificateOf = 30 * 24 * time.Hour
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
	gateways  []*gateway
	instances []*instance
	caller    *instance
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

const gatewayPorts, instancePorts = 4, 4

// newLayout chooses ports and writes certificates and config files.
func newLayout(dir string) (*layout, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &layout{dir: dir, program: program}
	const perCluster = 2
	ports, err := process.NewPorts().Take(len(clusters)*perCluster*(gatewayPorts+instancePorts) + instancePorts)
	if err != nil {
		return nil, err
	}
	next := func() string { p := ports[0]; ports = ports[1:]; return p }

	for _, c := range clusters {
		for n := range perCluster {
			name := fmt.Sprintf("%s-%d", c, n+1)
			l.gateways = append(l.gateways, &gateway{Process: l.process("gateway-" + name), cluster: c,
				tunnel: next(), mesh: next(), xds: next(), admin: next()})
			l.instances = append(l.instances, &instance{Process: l.process(fmt.Sprintf("orders-%s", name)), cluster: c,
				inbound: next(), target: next(), admin: next()})
		}
	}
	l.caller = &instance{Process: l.process("caller"), cluster: "east", inbound: next(), admin: next(), upstream: next()}

	root, err := identity.NewRoot(trustDomain, certificateOf)
	if err != nil {
		return nil, err
	}
	for _, c := range clusters {
		ca, err := root.NewCluster(mesh.ClusterName(c), []string{service.Namespace}, certificateOf)
		if err != nil {
			return nil, err
		}
		if err := l.writeCluster(c, ca); err != nil {
			return nil, fmt.Errorf("write the demo's files: %w", err)
		}
	}
	return l, nil
}

func (l *layout) process(name string) *process.Process {
	return &process.Process{Name: name, Log: filepath.Join(l.dir, name+".log")}
}

// writeCluster writes the files of one cluster's processes.
func (l *layout) writeCluster(c string, ca *identity.Authority) error {
	var xds []string
	for i, g := range l.gatewaysOf(c) {
		xds = append(xds, g.xds)
		join := l.gateways[0].tunnel // one address of any other gateway is enough
		if g == l.gateways[0] {
			join = ""
		}
		name := fmt.Sprintf("%s-%d", c, i+1)
		err := l.write(g.Process, ca, identity.Request{ID: identity.ID{Gateway: mesh.GatewayName(name)}}, fmt.Sprintf(`cluster: %s
name: %s
advertise: %s
meshAddress: %s
join: [%s]
identity: {dir: %s}
state: %s
listen: {tunnel: "%s", mesh: "%s", xds: "%s", admin: "%s"}
`, c, name, g.tunnel, g.mesh, join, l.file(g.Name, "pki"), l.file(g.Name, "state"), g.tunnel, g.mesh, g.xds, g.admin))
		if err != nil {
			return err
		}
		g.Args = []string{l.program, "gateway", "-c", l.file(g.Name, "gateway.yaml")}
	}
	for _, i := range l.instancesOf(c) {
		err := l.write(i.Process, ca, workload(service), fmt.Sprintf(`gateways: [%s]
identity: {dir: %s}
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
`, strings.Join(xds, ", "), l.file(i.Name, "pki"), l.file(i.Name, "state"), service, i.target, i.Name, i.inbound, i.inbound, i.admin))
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
	return l.write(l.caller.Process, ca, workload(caller), fmt.Sprintf(`gateways: [%s]
identity: {dir: %s}
state: %s
upstreams:
  - {listen: "%s", service: %s, port: 80}
listen: {admin: "%s"}
`, strings.Join(xds, ", "), l.file(l.caller.Name, "pki"), l.file(l.caller.Name, "state"), l.caller.upstream, service, l.caller.admin))
}

// workload is the certificate of a service's instances.
func workload(s mesh.ServiceName) identity.Request {
	return identity.Request{
		ID:       identity.ID{Namespace: s.Namespace, ServiceAccount: s.Name},
		DNSNames: []string{s.Host()},
	}
}

// write writes one process's certificate and config file.
func (l *layout) write(p *process.Process, ca *identity.Authority, r identity.Request, config string) error {
	for _, d := range []string{"pki", "state"} {
		if err := os.MkdirAll(l.file(p.Name, d), 0o700); err != nil {
			return err
		}
	}
	r.TTL = certificateOf
	cred, err := ca.Issue(r)
	if err != nil {
		return err
	}
	if err := cred.Save(l.file(p.Name, "pki"), true); err != nil {
		return err
	}
	file := "sidecar.yaml"
	if r.ID.IsGateway() {
		file = "gateway.yaml"
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

Configs, certificates, state and logs are in %[5]s.
`, l.caller.upstream, service, g.admin, i.admin, l.dir)
	fmt.Fprintf(w, `
A program with a mesh certificate needs no sidecar to call a service:

  curl -p -x http://%[1]s --cacert %[2]s --cert %[3]s --key %[4]s https://%[5]s:80/
`, g.mesh, l.file("caller", "pki/roots.pem"), l.file("caller", "pki/cert.pem"), l.file("caller", "pki/key.pem"), service.Host())
}
