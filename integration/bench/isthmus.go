package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

const trustDomain = "bench.isthmus.example"

var (
	caller = mesh.ServiceName{Namespace: "shop", Name: "caller"} // in east
	orders = mesh.ServiceName{Namespace: "shop", Name: "orders"} // in west, or in east without a sidecar
)

// certificates are the directories that `isthmus pki` wrote, for all contenders.
type certificates struct {
	root               string
	east, west         string // gateways
	caller, orders     string // workloads, in east and in west
	ordersEast         string // the same service in the caller's cluster
	callerID, ordersID string
}

// newCertificates makes the mesh's certificates.
func (b *bench) newCertificates(ctx context.Context) error {
	dir, err := b.subdir("pki")
	if err != nil {
		return err
	}
	workload := func(cluster mesh.ClusterName, s mesh.ServiceName) string {
		return identity.ID{TrustDomain: trustDomain, Cluster: cluster, Namespace: s.Namespace, ServiceAccount: s.Name}.String()
	}
	b.pki = certificates{
		root:   filepath.Join(dir, "root"),
		east:   filepath.Join(dir, "east-1"),
		west:   filepath.Join(dir, "west-1"),
		caller: filepath.Join(dir, "caller"),
		orders: filepath.Join(dir, "orders"),

		ordersEast: filepath.Join(dir, "orders-east"),
		callerID:   workload("east", caller),
		ordersID:   workload("west", orders),
	}
	for _, args := range [][]string{
		{"init", "--trust-domain", trustDomain},
		{"cluster", "east"},
		{"cluster", "west"},
		{"gateway", "--cluster", "east", "east-1", "-o", b.pki.east},
		{"gateway", "--cluster", "west", "west-1", "-o", b.pki.west},
		{"workload", "--cluster", "east", caller.String(), "-o", b.pki.caller},
		{"workload", "--cluster", "west", orders.String(), "-o", b.pki.orders},
		{"workload", "--cluster", "east", orders.String(), "-o", b.pki.ordersEast},
	} {
		args = append(append([]string{"pki"}, args...), "-d", b.pki.root)
		if out, err := exec.CommandContext(ctx, b.tools.isthmus, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("isthmus %v: %w\n%s", args, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// isthmusProxy is a sidecar's explicit listener in front of an endpoint without
// a sidecar in its own cluster. The gateway tells it where that is, and carries
// none of the traffic.
func isthmusProxy(b *bench, flow string, t traffic) (*contender, error) {
	east, proxy, url, err := b.oneCluster(flow, t, "mode: explicit")
	if err != nil {
		return nil, err
	}
	return &contender{name: "isthmus", url: url, path: []*process.Process{proxy}, beside: []*process.Process{east}}, nil
}

// oneCluster is a gateway that knows the origin as an endpoint of the service,
// and a caller's sidecar with the URL at which it leads there.
func (b *bench) oneCluster(flow string, t traffic, interception string) (gateway, sidecar *process.Process, url string, err error) {
	east, err := b.gateway(flow, "east", b.pki.east, nil)
	if err != nil {
		return nil, nil, "", err
	}
	east.Place = place{cpu: b.cpus.load}.place()
	if err := os.WriteFile(filepath.Join(east.resources, "orders.yaml"), fmt.Appendf(nil, `apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: %s, name: %s}
spec:
  ports: [{port: 80, protocol: %s}]
  endpoints:
    - address: %s
`, orders.Namespace, orders.Name, t.program, b.origins[t.program]), 0o600); err != nil {
		return nil, nil, "", err
	}
	sidecar, url, err = b.callerSidecar(flow, east, interception)
	return east.Process, sidecar, url, err
}

// isthmusPair is one cluster: a caller's sidecar and the service's. Its gateway carries
// none of the traffic.
func isthmusPair(b *bench, flow string, t traffic) (*contender, error) {
	east, err := b.gateway(flow, "east", b.pki.east, nil)
	if err != nil {
		return nil, err
	}
	east.Place = place{cpu: b.cpus.load}.place()
	client, url, err := b.callerSidecar(flow, east, "mode: explicit")
	if err != nil {
		return nil, err
	}
	server, inbound, err := b.serverSidecar(flow, t, east, b.pki.ordersEast)
	if err != nil {
		return nil, err
	}
	return &contender{name: "isthmus", url: url, hop: hopWire{address: inbound, http2: true},
		path: []*process.Process{client, server}, beside: []*process.Process{east.Process}}, nil
}

// isthmusPath is two clusters: a caller's sidecar and its gateway, the other
// cluster's gateway and the service's sidecar.
func isthmusPath(b *bench, flow string, t traffic) (*contender, error) {
	east, err := b.gateway(flow, "east", b.pki.east, nil)
	if err != nil {
		return nil, err
	}
	west, err := b.gateway(flow, "west", b.pki.west, east)
	if err != nil {
		return nil, err
	}
	client, url, err := b.callerSidecar(flow, east, "mode: explicit")
	if err != nil {
		return nil, err
	}
	server, inbound, err := b.serverSidecar(flow, t, west, b.pki.orders)
	if err != nil {
		return nil, err
	}
	return &contender{name: "isthmus", url: url, hop: hopWire{address: inbound, http2: t.program == grpcProgram},
		path: []*process.Process{client, east.Process, west.Process, server}}, nil
}

// meshGateway is a gateway process and what others need to know of it.
type meshGateway struct {
	*process.Process
	tunnel, xds string
	resources   string // directory
}

// gateway makes a gateway of a cluster. It joins through another, if given.
func (b *bench) gateway(flow, cluster, pki string, join *meshGateway) (*meshGateway, error) {
	ports, err := b.ports.Take(4)
	if err != nil {
		return nil, err
	}
	dir, err := b.subdir("isthmus-"+flow, "gateway-"+cluster)
	if err != nil {
		return nil, err
	}
	g := &meshGateway{tunnel: ports[0], xds: ports[1], resources: filepath.Join(dir, "resources")}
	if err := os.MkdirAll(g.resources, 0o700); err != nil {
		return nil, err
	}
	var joined string
	if join != nil {
		joined = join.tunnel
	}
	g.Process, err = b.isthmus("gateway", cluster+" gateway", dir, fmt.Sprintf(`cluster: %s
name: %s-1
advertise: %s
meshAddress: %s
join: [%s]
identity: {dir: %s}
resources: %s
state: %s
listen: {tunnel: "%s", mesh: "%s", xds: "%s", admin: "%s"}
`, cluster, cluster, g.tunnel, ports[2], joined, pki, g.resources, filepath.Join(dir, "state"), g.tunnel, ports[2], g.xds, ports[3]))
	return g, err
}

// callerSidecar makes the caller's sidecar and returns the URL at which it
// leads to the service by its explicit listener.
func (b *bench) callerSidecar(flow string, g *meshGateway, interception string) (*process.Process, string, error) {
	ports, err := b.ports.Take(2)
	if err != nil {
		return nil, "", err
	}
	dir, err := b.subdir("isthmus-"+flow, "caller")
	if err != nil {
		return nil, "", err
	}
	p, err := b.isthmus("sidecar", "caller", dir, fmt.Sprintf(`gateways: ["%s"]
identity: {dir: %s}
state: %s
upstreams:
  - {listen: "%s", service: %s, port: 80}
interception: {%s}
listen: {admin: "%s"}
`, g.xds, b.pki.caller, filepath.Join(dir, "state"), ports[0], orders, interception, ports[1]))
	return p, "http://" + ports[0] + "/", err
}

// serverSidecar makes the sidecar beside the service, whose program is the origin,
// and returns where it listens.
func (b *bench) serverSidecar(flow string, t traffic, g *meshGateway, pki string) (p *process.Process, inbound string, err error) {
	ports, err := b.ports.Take(2)
	if err != nil {
		return nil, "", err
	}
	dir, err := b.subdir("isthmus-"+flow, "server")
	if err != nil {
		return nil, "", err
	}
	p, err = b.isthmus("sidecar", "server", dir, fmt.Sprintf(`gateways: ["%s"]
identity: {dir: %s}
state: %s
service: {name: %s, port: 80, target: "%s", protocol: %s, instance: orders-1, advertise: "%s", export: true}
listen: {inbound: "%s", admin: "%s"}
`, g.xds, pki, filepath.Join(dir, "state"), orders, b.origins[t.program], t.program, ports[0], ports[0], ports[1]))
	return p, ports[0], err
}

// isthmus makes a process of ours in the given role.
func (b *bench) isthmus(role, name, dir, config string) (*process.Process, error) {
	file := filepath.Join(dir, role+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	p := newProcess(name, dir, place{cpu: b.cpus.proxies}, b.tools.isthmus, role, "-c", file)
	if b.opts.profile != "" {
		ports, err := b.ports.Take(1)
		if err != nil {
			return nil, err
		}
		p.Args = append(p.Args, "--listen-profiles", ports[0])
		b.profiled[p] = ports[0]
	}
	return p, nil
}
