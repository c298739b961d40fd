package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ProbesPath is where a sidecar answers for probes, before the name of each.
const ProbesPath = "/probes/"

// ProbeScheme is how a program is asked.
type ProbeScheme string

// The schemes.
const (
	ProbeHTTP  ProbeScheme = "http"
	ProbeHTTPS ProbeScheme = "https"
	ProbeTCP   ProbeScheme = "tcp"
	ProbeGRPC  ProbeScheme = "grpc"
)

// Probe is a question of the kubelet's to a program of the pod.
type Probe struct {
	Name   string // CONTAINER/PROBE, such as web/livenessProbe
	Scheme ProbeScheme
	Port   uint16
	Path   string // with its query; of grpc the service, of tcp empty
}

// String returns the form that UnmarshalText reads: a word, which lists can have.
func (p Probe) String() string {
	return fmt.Sprintf("%s=%s:%d:%s", p.Name, p.Scheme, p.Port, url.QueryEscape(p.Path))
}

// MarshalText writes what UnmarshalText reads.
func (p Probe) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads web/livenessProbe=http:8080:%2Fhealthz.
func (p *Probe) UnmarshalText(b []byte) error {
	bad := fmt.Errorf("%q is no probe: write container/probe=scheme:port:path, with a scheme of http, https, tcp or grpc, and the path percent-encoded", b)
	name, rest, ok := strings.Cut(string(b), "=")
	parts := strings.SplitN(rest, ":", 3)
	if !ok || len(parts) != 3 || strings.Count(name, "/") != 1 || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return bad
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	path, pathErr := url.QueryUnescape(parts[2])
	if err != nil || port == 0 || pathErr != nil {
		return bad
	}
	scheme := ProbeScheme(parts[0])
	switch scheme {
	case ProbeHTTP, ProbeHTTPS:
		if !strings.HasPrefix(path, "/") {
			return bad
		}
	case ProbeTCP, ProbeGRPC:
	default:
		return bad
	}
	*p = Probe{Name: name, Scheme: scheme, Port: uint16(port), Path: path}
	return nil
}
