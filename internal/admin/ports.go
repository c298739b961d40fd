package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
)

// Ports are the bound ports of an admin server. Those that are nil are not served.
type Ports struct {
	Admin    net.Listener // everything but profiles; for callers on this host
	Metrics  net.Listener // /metrics, /livez and /readyz; for other hosts
	Profiles net.Listener // /debug/pprof/
}

// port is one of them with what it serves.
type port struct {
	key      string // of the configuration
	listener net.Listener
	handler  http.Handler
}

func (p Ports) all(s *Server) []port {
	return []port{
		{"listen.admin", p.Admin, s.pages()},
		{"listen.metrics", p.Metrics, s.public()},
		{"listen.profiles", p.Profiles, profiles()},
	}
}

// Close closes them.
func (p Ports) Close() {
	for _, l := range []net.Listener{p.Admin, p.Metrics, p.Profiles} {
		if l != nil {
			_ = l.Close() // closed already when it was served
		}
	}
}

// Bind binds the ports of these addresses; of those that are empty, none. The
// error names the key of the configuration.
func Bind(listen func(network, address string) (net.Listener, error), admin, metrics, profiles string) (p Ports, err error) {
	for _, a := range []struct {
		key, address string
		to           *net.Listener
	}{{"listen.admin", admin, &p.Admin}, {"listen.metrics", metrics, &p.Metrics}, {"listen.profiles", profiles, &p.Profiles}} {
		if a.address == "" {
			continue
		}
		if *a.to, err = listen("tcp", a.address); err != nil {
			*a.to = nil
			p.Close()
			return Ports{}, fmt.Errorf("%s: %w", a.key, err)
		}
	}
	return p, nil
}

// profiles serves net/http/pprof.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return fromHere(mux)
}
