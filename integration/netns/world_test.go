package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// world is the three clusters: a gateway host each, and hosts with a service.
type world struct {
	dir      string
	hosts    []*host // those that are not a test's own
	gateways []*host
	served   []service
}

// service is a server and what the mesh calls it.
type service struct {
	name     string // shop/<name>, on a host of this name
	cluster  hosts.Network
	number   int // the host's
	port     int // of the service, and of the server on loopback
	protocol string
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// isthmus runs a command of the binary, which must succeed.
func isthmus(args ...string) error {
	_, err := harness.Isthmus(isthmusBinary, args...)
	return err
}

func (w *world) pki(clusters ...hosts.Network) error {
	if err := isthmus("pki", "init", "--trust-domain", "netns.example", "-d", w.path("pki")); err != nil {
		return err
	}
	for _, c := range clusters {
		if err := isthmus("pki", "cluster", c.Name, "-d", w.path("pki")); err != nil {
			return err
		}
	}
	return nil
}

// permissive lets callers without an identity call shop/permissive.
const permissive = `apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: permissive}
spec: {allow: ["shop/*", anonymous]}
`

// gateway starts a cluster's gateway, which joins through the first one.
func (w *world) gateway(cluster hosts.Network, number int) error {
	name := cluster.Name + "-gw"
	h, err := w.resident(name, cluster, 1)
	if err != nil {
		return err
	}
	if err := h.Plug("wan0", name+"-wan", wan, number); err != nil {
		return err
	}
	join := ""
	if number > 1 {
		join = wan.V4(1) + ":7443"
	}
	if err := isthmus("pki", "gateway", "--cluster", cluster.Name, name, "-d", w.path("pki"), "-o", w.path(name, "pki")); err != nil {
		return err
	}
	resources := w.path(name, "resources")
	if err := os.MkdirAll(resources, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(resources, "permissive.yaml"), []byte(permissive), 0o600); err != nil {
		return err
	}
	file := w.path(name, "gateway.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, `cluster: %s
name: %s
advertise: "%s:7443"
meshAddress: "%s:15443"
join: [%s]
identity: {dir: %s}
resources: %s
state: %s
`, cluster.Name, name, wan.V4(number), h.Address(), join, w.path(name, "pki"), resources, w.path(name, "state")), 0o600)
	if err != nil {
		return err
	}
	w.gateways = append(w.gateways, h)
	_, err = h.start(name, isthmusBinary, "gateway", "-c", file)
	return err
}

// sidecar writes a sidecar's files and returns its command line. more is what its
// configuration says beside identity and gateway.
func (h *host) sidecar(name, more string) ([]string, error) {
	w := h.w
	identity := w.path(name, "pki")
	if err := os.RemoveAll(w.path(name)); err != nil { // of the test's last run
		return nil, err
	}
	if err := isthmus("pki", "workload", "--cluster", h.Cluster.Name, "shop/"+name, "-d", w.path("pki"), "-o", identity); err != nil {
		return nil, err
	}
	file := w.path(name, "sidecar.yaml")
	err := os.WriteFile(file, fmt.Appendf(nil, "gateways: [%s]\nidentity: {dir: %s}\nstate: %s\n%s\n",
		h.Cluster.V4(1)+":15012", identity, w.path(name, "state"), more), 0o600)
	return []string{isthmusBinary, "sidecar", "-c", file}, err
}

// serve starts a service: a server and, unknown to it, the sidecar beside it.
func (w *world) serve(s service, server ...string) error {
	h, err := w.resident(s.name, s.cluster, s.number)
	if err != nil {
		return err
	}
	if _, err := h.start(s.name+"-server", server...); err != nil {
		return err
	}
	argv, err := h.sidecar(s.name, fmt.Sprintf(`service: {name: shop/%s, port: %d, target: "127.0.0.1:%[2]d", protocol: %[3]s, export: true}`, s.name, s.port, s.protocol))
	if err != nil {
		return err
	}
	w.served = append(w.served, s)
	_, err = h.start(s.name, argv...)
	return err
}

// page is one of the admin port of the sidecar on h.
func (h *host) page(path string) (string, error) {
	out, err := h.Command(context.Background(), self, "program", "http", "http://127.0.0.1:15020/"+path).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s of %s: %w: %s", path, h.Name, err, out)
	}
	return string(out), err
}

// status asks a gateway as an operator does, in its namespace.
func (h *host) status() (*status.Gateway, error) {
	out, err := h.Command(context.Background(), isthmusBinary, "status", "-o", "json").Output()
	if len(out) == 0 {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, err
	}
	a, err := status.Parse(out) // with exit code 1, it tells of what is down
	return a.Gateway, err
}

// settled waits until every gateway sees every service.
func (w *world) settled() error {
	return harness.Eventually(func() error {
		for _, g := range w.gateways {
			s, err := g.status()
			if err != nil {
				return fmt.Errorf("%s: %w", g.Name, err)
			}
			ready := map[string]uint32{}
			for _, svc := range s.Services {
				for _, c := range svc.Clusters {
					if c.Reachable {
						ready[string(c.Cluster)+" "+svc.Service.String()] += c.Ready
					}
				}
			}
			for _, served := range w.served {
				if n := ready[served.cluster.Name+" shop/"+served.name]; n != 1 {
					return fmt.Errorf("%s sees %d ready of %s in %s", g.Name, n, served.name, served.cluster.Name)
				}
			}
		}
		return nil
	})
}
