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

// peerFiles are the configurations of nginx and Envoy: one file per role, and
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

// hop is what a peer's configuration file names.
type hop struct {
	Dir          string  // the process's own
	Listen, Next address // Next is where it sends what comes in
	PKI          string  // directory of its certificate
	Host         string  // of the service: TLS server name
	Peer         string  // SPIFFE ID of the other end of its TLS
	HTTP2        bool    // between the two ends of the TLS
	Body         string  // what the origin answers
	LoadStream   string  // nginx: how to have its stream module
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
	proxyRoles = []role{{"proxy", "proxy"}}
	nginxPath  = []role{{"mtls-client", "caller"}, {"stream", "near"}, {"stream", "far"}, {"mtls-server", "server"}}
	envoyPath  = []role{{"mtls-client", "caller"}, {"tcp", "near"}, {"tcp", "far"}, {"mtls-server", "server"}}
)

func (b *bench) nginxProxy() (*contender, error) { return b.chain("nginx", b.nginx, proxyRoles, hop{}) }
func (b *bench) nginxPath() (*contender, error)  { return b.chain("nginx", b.nginx, nginxPath, hop{}) }

func (b *bench) envoyProxy() (*contender, error) { return b.chain("envoy", b.envoy, proxyRoles, hop{}) }
func (b *bench) envoyPath() (*contender, error)  { return b.chain("envoy", b.envoy, envoyPath, hop{}) }

// envoyPathHTTP2 has HTTP/2 between the ends of the TLS: what Envoy is best at,
// and nginx cannot do.
func (b *bench) envoyPathHTTP2() (*contender, error) {
	return b.chain("envoy h2", b.envoy, envoyPath, hop{HTTP2: true})
}

// chain makes a contender of peers, each sending to the next and the last to
// the origin. It is nil when the program is not installed.
func (b *bench) chain(name string, program func(role, hop) (*process.Process, error), roles []role, h hop) (*contender, error) {
	c := &contender{name: name}
	ports, err := b.ports.Take(len(roles))
	if err != nil {
		return nil, err
	}
	c.url = "http://" + ports[0] + "/"
	next := append(ports[1:], b.originAddr)
	h.Host = orders.Host()
	for i, r := range roles {
		h := h
		if h.Listen, err = splitAddress(ports[i]); err != nil {
			return nil, err
		}
		if h.Next, err = splitAddress(next[i]); err != nil {
			return nil, err
		}
		switch r.file {
		case "mtls-client":
			h.PKI, h.Peer = b.pki.caller, b.pki.ordersID
		case "mtls-server":
			h.PKI, h.Peer = b.pki.orders, b.pki.callerID
		}
		if h.Dir, err = b.subdir(name, r.process); err != nil {
			return nil, err
		}
		p, err := program(r, h)
		if p == nil || err != nil {
			return nil, err
		}
		c.path = append(c.path, p)
	}
	return c, nil
}

// nginx makes an nginx process.
func (b *bench) nginx(r role, h hop) (*process.Process, error) {
	if r.file == "stream" {
		h.LoadStream = b.tools.loadStream
	}
	file, err := b.configure(r, h, "nginx", ".conf")
	if err != nil {
		return nil, err
	}
	return newProcess(r.process, h.Dir, place{cpu: b.cpus.proxies}, b.tools.nginx, "-p", h.Dir, "-e", "stderr", "-c", file), nil
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

// newOrigin makes the server that a flow ends at, in a directory of the run. It
// runs beside the load.
func (b *bench) newOrigin(dir string) (*process.Process, error) {
	h := hop{Body: body}
	var err error
	if h.Listen, err = splitAddress(b.originAddr); err != nil {
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
