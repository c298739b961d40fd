package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// peerFiles are the configurations of nginx, HAProxy and Envoy: one file per role, and
// one of shared pieces for each program.
//
//go:embed peers
var peerFiles embed.FS

// address is a host and a port apart, as Envoy wants them.
type address struct{ Host, Port string }

func (a address) String() string { return net.JoinHostPort(a.Host, a.Port) }

func splitAddress(s string) (address, error) {
	host, port, err := net.SplitHostPort(s)
	return address{host, port}, err
}

// wire is what is spoken on one connection.
type wire string

const (
	h1     wire = "h1"
	h2     wire = "h2"
	raw    wire = "raw"
	tunnel wire = "tunnel" // CONNECT streams of HTTP/2, with bytes in them
)

// hop is what a peer's configuration file names.
type hop struct {
	Dir          string  // the process's own
	In, Out      wire    // what comes in, and what it sends
	Listen, Next address // Next is where it sends what comes in
	PKI          string  // directory of its certificate
	Host         string  // of the service: TLS server name
	Peer         string  // SPIFFE ID of the other end of its TLS
	Body         string  // what the origin answers
	LoadStream   string  // nginx: how to have its stream module
	client       bool    // of the TLS
}

// H2Hop says whether the two ends of the TLS agree on HTTP/2.
func (h hop) H2Hop() bool {
	w := h.In
	if h.client {
		w = h.Out
	}
	return w == h2 || w == tunnel
}

// render makes a configuration file from a template and its program's common one.
func render(program, role, ext string, h hop) ([]byte, error) {
	name := program + "-" + role + ext
	t, err := template.New(name).Option("missingkey=error").ParseFS(peerFiles,
		"peers/"+program+"-common"+ext, "peers/"+name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, h)
	return out.Bytes(), err
}

// role is one place in a chain of peers: the name of its configuration, and
// the process's.
type role struct{ file, process string }

var (
	oneRole   = []role{{"proxy", "proxy"}}
	pairRoles = []role{{"mtls-client", "caller"}, {"mtls-server", "server"}}
	pathRoles = []role{{"mtls-client", "caller"}, {"relay", "near"}, {"relay", "far"}, {"mtls-server", "server"}}
	tcpRoles  = []role{{"tcp-client", "caller"}, {"tcp-server", "server"}}
)

// The peers of every flow: what they are, and what is spoken on their
// connections from the load to the origin.
var (
	nginxProxy   = chain("nginx", (*bench).nginx, oneRole, h1, h1)
	nginxProxyH2 = chain("nginx", (*bench).nginx, oneRole, h2, h2)
	nginxPair    = chain("nginx", (*bench).nginx, pairRoles, h1, h1, h1)
	nginxPairTCP = chain("nginx", (*bench).nginx, tcpRoles, raw, raw, raw)
	nginxPath    = chain("nginx", (*bench).nginx, pathRoles, h1, h1, h1, h1, h1)

	haproxyProxy         = chain("haproxy", (*bench).haproxy, oneRole, h1, h1)
	haproxyProxyH2       = chain("haproxy", (*bench).haproxy, oneRole, h2, h2)
	haproxyPair          = chain("haproxy", (*bench).haproxy, pairRoles, h1, h1, h1)
	haproxyPairH2        = chain("haproxy", (*bench).haproxy, pairRoles, h2, h2, h2)
	haproxyPairH2Between = chain("haproxy h2", (*bench).haproxy, pairRoles, h1, h2, h1)
	haproxyPairTCP       = chain("haproxy", (*bench).haproxy, tcpRoles, raw, raw, raw)

	envoyProxy   = chain("envoy", (*bench).envoy, oneRole, h1, h1)
	envoyProxyH2 = chain("envoy", (*bench).envoy, oneRole, h2, h2)
	envoyPair    = chain("envoy", (*bench).envoy, pairRoles, h1, h1, h1)
	envoyPairH2  = chain("envoy", (*bench).envoy, pairRoles, h2, h2, h2)
	// HTTP/2 between the ends of the TLS is what Envoy is best at, and nginx cannot do.
	envoyPairH2Between = chain("envoy h2", (*bench).envoy, pairRoles, h1, h2, h1)
	envoyPairTCP       = chain("envoy", (*bench).envoy, tcpRoles, raw, raw, raw)
	envoyPairTunnel    = chain("envoy h2", (*bench).envoy, tcpRoles, raw, tunnel, raw)
	envoyPath          = chain("envoy", (*bench).envoy, pathRoles, h1, h1, h1, h1, h1)
	envoyPathH2Between = chain("envoy h2", (*bench).envoy, pathRoles, h1, h2, h2, h2, h1)
	envoyPathH2        = chain("envoy", (*bench).envoy, pathRoles, h2, h2, h2, h2, h2)
)

// chain returns what makes a contender of peers, each sending to the next and the last to
// the origin: none when the program is not installed.
func chain(name string, program func(*bench, role, hop) (*process.Process, error), roles []role, wires ...wire) maker {
	return func(b *bench, flow string, t traffic) (*contender, error) {
		c := &contender{name: name}
		ports, err := b.ports.Take(len(roles))
		if err != nil {
			return nil, err
		}
		c.url = "http://" + ports[0] + "/"
		if len(roles) > 1 {
			c.hop = hopWire{ports[len(roles)-1], wires[len(roles)-1] == h2 || wires[len(roles)-1] == tunnel}
		}
		next := append(ports[1:], b.origins[t.program])
		for i, r := range roles {
			h := hop{In: wires[i], Out: wires[i+1], Host: orders.Host()}
			if h.Listen, err = splitAddress(ports[i]); err != nil {
				return nil, err
			}
			if h.Next, err = splitAddress(next[i]); err != nil {
				return nil, err
			}
			switch r.process {
			case "caller":
				h.PKI, h.Peer, h.client = b.pki.caller, b.pki.ordersID, true
			case "server":
				h.PKI, h.Peer = b.pki.orders, b.pki.callerID
			}
			if h.Dir, err = b.subdir(flow, name, r.process); err != nil {
				return nil, err
			}
			p, err := program(b, r, h)
			if p == nil || err != nil {
				return nil, err
			}
			c.path = append(c.path, p)
		}
		return c, nil
	}
}

// nginx makes an nginx process.
func (b *bench) nginx(r role, h hop) (*process.Process, error) {
	if r.file == "relay" || strings.HasPrefix(r.file, "tcp-") {
		h.LoadStream = b.tools.loadStream
	}
	file, err := b.configure(r, h, "nginx", ".conf")
	if err != nil {
		return nil, err
	}
	return newProcess(r.process, h.Dir, place{cpu: b.cpus.proxies}, b.tools.nginx, "-p", h.Dir, "-e", "stderr", "-c", file), nil
}

// haproxy makes a HAProxy process with one thread, or none when it is not installed.
func (b *bench) haproxy(r role, h hop) (*process.Process, error) {
	if b.tools.haproxy == "" {
		return nil, nil
	}
	if h.PKI != "" { // it wants a certificate and its key in one file
		var both []byte
		for _, name := range []string{"cert.pem", "key.pem"} {
			pem, err := os.ReadFile(filepath.Join(h.PKI, name))
			if err != nil {
				return nil, err
			}
			both = append(both, pem...)
		}
		if err := os.WriteFile(filepath.Join(h.Dir, "both.pem"), both, 0o600); err != nil {
			return nil, err
		}
	}
	file, err := b.configure(r, h, "haproxy", ".cfg")
	if err != nil {
		return nil, err
	}
	return newProcess(r.process, h.Dir, place{cpu: b.cpus.proxies}, b.tools.haproxy, "-db", "-f", file), nil
}

// envoy makes an Envoy process with one worker, or none when it is not installed.
func (b *bench) envoy(r role, h hop) (*process.Process, error) {
	if b.tools.envoy == "" {
		return nil, nil
	}
	file, err := b.configure(r, h, "envoy", ".yaml")
	if err != nil {
		return nil, err
	}
	return newProcess(r.process, h.Dir, place{cpu: b.cpus.proxies}, b.tools.envoy, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"), nil
}

func (b *bench) configure(r role, h hop, program, ext string) (string, error) {
	config, err := render(program, r.file, ext, h)
	if err != nil {
		return "", err
	}
	file := filepath.Join(h.Dir, program+ext)
	return file, os.WriteFile(file, config, 0o600)
}

// newOrigin makes the HTTP/1.1 server that a flow ends at, in a directory of the run. It
// runs beside the load.
func (b *bench) newOrigin(dir string) (*process.Process, error) {
	h := hop{Body: body}
	var err error
	if h.Listen, err = splitAddress(b.origins[httpProgram]); err != nil {
		return nil, err
	}
	if h.Dir, err = b.subdir(dir); err != nil {
		return nil, err
	}
	p, err := b.nginx(role{"origin", "origin"}, h)
	if err == nil {
		p.Place = place{cpu: b.cpus.load}.place()
	}
	return p, err
}

var nginxModules = regexp.MustCompile(`--modules-path=(\S+)`)

// streamModule says how a configuration gets nginx's stream module: by loading
// it, or not at all when it is built in.
func streamModule(ctx context.Context, nginx string) (load string, err error) {
	out, err := exec.CommandContext(ctx, nginx, "-V").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -V: %w", nginx, err)
	}
	if strings.Contains(string(out)+" ", "--with-stream ") {
		return "", nil
	}
	if m := nginxModules.FindSubmatch(out); m != nil {
		file := filepath.Join(string(m[1]), "ngx_stream_module.so")
		if _, err := os.Stat(file); err == nil {
			return "load_module " + file + ";", nil
		}
	}
	return "", errNoStream
}
