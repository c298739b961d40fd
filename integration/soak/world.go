package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

var (
	east  = hosts.Network{Name: "east", Number: 1}
	west  = hosts.Network{Name: "west", Number: 2}
	north = hosts.Network{Name: "north", Number: 3}
	wan   = hosts.Network{Name: "wan", Number: 9}
)

// world is the mesh under test:
//
//	              wan
//	    ┌──────────┼──────────┐
//	two gateways  two        two
//	    │          │          │
//	   east       west      north
//	  call-e     call-w     call-n
//	            orders-w1  orders-n1
//	            orders-w2  orders-n2
//	            echo-w     echo-n
type world struct {
	binary, self string
	socket       string // of the records
	spawner      *process.Spawner
	gateways     []*node
	services     []*node // sidecars of services
	callers      []*node // sidecars of callers
}

// node is a host with one process of isthmus, and what it serves.
type node struct {
	*hosts.Host
	w       *world
	isthmus *process.Process
	program *process.Process // beside the sidecar; nil: the sidecar starts it, or there is none
	admin   string
	wan     int    // a gateway's number there
	service string // a sidecar's
	spared  bool   // it is not ended, so that what grows in it has the whole time to
	config  func(reloads int) string
	reloads int
}

// serving is a service's instance.
type serving struct {
	host    string
	cluster hosts.Network
	number  int
	service string
	beside  bool // the program is not started by its sidecar
}

// instances has two of orders in each of two clusters, since a request that a killed
// program may have seen is repeated within its cluster.
var instances = []serving{
	{"orders-w1", west, 11, "orders", true},
	{"orders-w2", west, 12, "orders", false},
	{"orders-n1", north, 11, "orders", true},
	{"orders-n2", north, 12, "orders", false},
	{"echo-w", west, 13, "echo", false},
	{"echo-n", north, 13, "echo", true},
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{hosts.Dir()}, elem...)...)
}

// start starts everything but the load.
func (w *world) start(ctx context.Context) error {
	if err := hosts.PlugSwitch(east, west, north, wan); err != nil {
		return err
	}
	if err := w.pki("init", "--trust-domain", "soak.example"); err != nil {
		return err
	}
	for _, c := range []hosts.Network{east, west, north} {
		if err := w.pki("cluster", c.Name); err != nil {
			return err
		}
	}
	for i, c := range []hosts.Network{east, west, north} {
		for number := 1; number <= 2; number++ {
			if err := w.gateway(c, number, 2*i+number); err != nil {
				return err
			}
		}
	}
	for _, s := range instances {
		if err := w.serve(s); err != nil {
			return err
		}
	}
	for _, c := range []hosts.Network{east, west, north} {
		if err := w.caller(c); err != nil {
			return err
		}
	}
	return w.settled(ctx, harness.Limit)
}

// pki runs isthmus pki with arguments.
func (w *world) pki(args ...string) error {
	_, err := harness.Isthmus(w.binary, append(append([]string{"pki"}, args...), "-d", w.path("pki"))...)
	return err
}

// certify gives a node its certificate, or a new one.
func (n *node) certify() error {
	args := []string{"workload", "--cluster", n.Cluster.Name, "shop/" + n.service}
	if n.wan > 0 {
		args = []string{"gateway", "--cluster", n.Cluster.Name, n.Name}
	}
	return n.w.pki(append(args, "--force", "-o", n.w.path(n.Name, "pki"))...)
}

// configure writes the configuration file and returns its name.
func (n *node) configure() (file string, err error) {
	file = n.w.path(n.Name, "config.yaml")
	return file, os.WriteFile(file, []byte(n.config(n.reloads)), 0o600)
}

// profiles is where every process serves its profiles.
const profiles = "127.0.0.1:15060"

func (w *world) gateway(cluster hosts.Network, number, onWAN int) error {
	n := &node{w: w, admin: "127.0.0.1:15000", wan: onWAN}
	var err error
	if n.Host, err = hosts.New(fmt.Sprintf("%s-gw%d", cluster.Name, number), cluster, number); err != nil {
		return err
	}
	w.gateways = append(w.gateways, n)
	if err := n.Plug("wan0", n.Name+"w", wan, onWAN); err != nil {
		return err
	}
	if err := n.certify(); err != nil {
		return err
	}
	var join []string // the first gateway of each cluster
	for _, other := range []int{1, 3, 5} {
		if other != onWAN {
			join = append(join, wan.V4(other)+":7443")
		}
	}
	n.config = func(reloads int) string {
		return fmt.Sprintf(`cluster: %s
name: %s
advertise: "%s:7443"
meshAddress: "%s:15443"
join: [%s]
identity: {dir: %s}
state: %s
listen: {profiles: "%s"}
log: {level: %s}
`, cluster.Name, n.Name, wan.V4(onWAN), n.Address(), strings.Join(join, ", "), w.path(n.Name, "pki"), w.path(n.Name, "state"),
			profiles, []string{"info", "warn"}[reloads%2])
	}
	return n.run("gateway")
}

// run starts the node's process of isthmus. more follows its arguments.
func (n *node) run(role string, more ...string) error {
	file, err := n.configure()
	if err != nil {
		return err
	}
	argv := append([]string{n.w.binary, role, "-c", file}, more...)
	if n.wan > 0 && n.Number == 2 { // large packets to be cut by the kernel pass every limit of these networks
		argv = append([]string{"env", "QUIC_GO_DISABLE_GSO=true"}, argv...)
	}
	n.isthmus, err = n.Start(n.w.spawner, n.Name, argv...)
	return err
}

func (w *world) serve(s serving) error {
	n := &node{w: w, admin: "127.0.0.1:15020", service: s.service}
	var err error
	if n.Host, err = hosts.New(s.host, s.cluster, s.number); err != nil {
		return err
	}
	w.services = append(w.services, n)
	if err := n.certify(); err != nil {
		return err
	}
	role, ports := "echo", `{port: 7000, target: "127.0.0.1:8080", protocol: tcp, health: {type: tcp}}`
	if s.service == "orders" {
		role = "http"
		ports = `{port: 80, target: "127.0.0.1:8080", protocol: http, health: {path: /healthz}}, {port: 50051, target: "127.0.0.1:8081", protocol: grpc, health: {type: tcp}}`
	}
	n.config = func(reloads int) string {
		return n.sidecar(reloads) + fmt.Sprintf("services:\n- {name: shop/%s, instance: %s, export: true, ports: [%s]}\n", s.service, s.host, ports)
	}
	program := []string{w.self, "program", role, s.host, "127.0.0.1:8080", "127.0.0.1:8081", w.socket}
	if !s.beside {
		return n.run("sidecar", append([]string{"--"}, program...)...)
	}
	if n.program, err = n.Start(w.spawner, s.host+"-program", program...); err != nil {
		return err
	}
	return n.run("sidecar")
}

// sidecar is what the configurations of all sidecars have. Every second reload adds
// a listener.
func (n *node) sidecar(reloads int) string {
	upstreams := ""
	if reloads%2 == 1 {
		upstreams = `{listen: "127.0.0.1:18000", service: shop/orders}`
	}
	return fmt.Sprintf("gateways: [\"%s:15012\", \"%s:15012\"]\nidentity: {dir: %s}\nstate: %s\nlisten: {profiles: \"%s\"}\nupstreams: [%s]\n",
		n.Cluster.V4(1), n.Cluster.V4(2), n.w.path(n.Name, "pki"), n.w.path(n.Name, "state"), profiles, upstreams)
}

// caller starts a sidecar that captures; its program is started by load.
func (w *world) caller(cluster hosts.Network) error {
	n := &node{w: w, admin: "127.0.0.1:15020", service: "caller"}
	var err error
	if n.Host, err = hosts.New("call-"+cluster.Name, cluster, 21); err != nil {
		return err
	}
	w.callers = append(w.callers, n)
	if err := n.certify(); err != nil {
		return err
	}
	n.config = func(reloads int) string {
		return n.sidecar(reloads) + fmt.Sprintf("interception: {name: %s, mode: ebpf}\n", hosts.InterceptionName(n.Name))
	}
	return n.run("sidecar")
}

// load starts the callers' programs, in the cgroups that their sidecars capture: they
// outlive those.
func (w *world) load() error {
	root, err := interception.CgroupRoot()
	if err != nil {
		return err
	}
	for _, n := range w.callers {
		cgroup, err := os.Open(filepath.Join(root, "isthmus", hosts.InterceptionName(n.Name)))
		if err != nil {
			return err
		}
		defer cgroup.Close()
		n.program, err = n.StartAt(w.spawner, process.Place{Cgroup: cgroup}, n.Name+"-program", w.self, "program", "call", n.Name, w.socket)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) nodes() []*node {
	return append(append(append([]*node(nil), w.gateways...), w.services...), w.callers...)
}

// close ends everything, and says what was wrong with a process.
func (w *world) close() error {
	var err error
	for _, n := range w.callers { // first: the load
		if n.program != nil {
			n.program.Kill()
		}
	}
	for _, n := range w.nodes() {
		if n.Host != nil {
			err = errors.Join(err, n.End())
		}
	}
	w.spawner.Close()
	return err
}
