package config

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Identity says where a process has its certificate from: one of dir, ca, and
// workloadAPI.
type Identity struct {
	// The directory of cert.pem, key.pem and roots.pem, as isthmus pki writes them.
	// It is watched. Without ca and workloadAPI its default counts.
	Dir string `yaml:"dir" flag:"directory of cert.pem, key.pem and roots.pem"`
	// host or host:port of this cluster's CAs, isthmus ca; port 15010 when left out. The
	// process makes its key itself, keeps it in the state directory, and renews its
	// certificate at half of its life.
	CA []string `yaml:"ca" flag:"host:port of this cluster's CAs"`
	// The file of the token with which a process gets its first certificate from ca, as
	// isthmus pki token writes it, or with fingerprint or roots the kubelet. It is read when there is
	// no valid certificate in the state directory.
	Token string `yaml:"token" flag:"file of the token for the first certificate of identity.ca"`
	// Fingerprints of roots, sha256:HEX, as isthmus pki fingerprint prints them: the token is
	// that of a Kubernetes service account, of a projected volume with the audience of ca.yaml,
	// and the CA is one that it may be shown to when it is under one of these roots. They
	// count until there is a certificate. Default: none, and the token itself names its roots.
	Fingerprint []string `yaml:"fingerprint" flag:"fingerprints of the roots of identity.ca, for the token of a service account"`
	// The same by a PEM file of the roots, as roots.pem, in place of fingerprint.
	Roots string `yaml:"roots" flag:"PEM file of the roots of identity.ca, for the token of a service account"`
	// The cluster whose CAs may be shown the token, with fingerprint or roots. Of a gateway it is the
	// gateway's.
	Cluster mesh.ClusterName `yaml:"cluster" flag:"cluster of identity.ca, for the token of a service account"`
	// Have the certificates that ca issues name a workload as Istio does, too
	// (spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT): needed where ztunnels call it or are
	// called. Programs that insist on a single SPIFFE ID refuse such a certificate.
	IstioName bool `yaml:"istioName" flag:"carry the workload's name in Istio in the certificates of identity.ca"`
	// The socket of the SPIFFE Workload API, such as SPIRE's agent has:
	// unix:///run/spire/agent.sock. Its SPIFFE IDs must be those of the mesh.
	WorkloadAPI string `yaml:"workloadAPI" flag:"socket of the SPIFFE Workload API"`
}

// complete fills in what was left out and tells c what is wrong.
func (i *Identity) complete(c *completer) {
	fromCA := len(i.CA) > 0
	elsewhere := fromCA || i.WorkloadAPI != ""
	switch {
	case fromCA && i.WorkloadAPI != "":
		c.fault("identity", "names more than one origin of the certificate: write one of dir, ca and workloadAPI")
	case elsewhere && i.Dir != "" && c.doc.Has("identity.dir"): // the units of configs/systemd set it by the environment
		c.fault("identity", "names more than one origin of the certificate: write one of dir, ca and workloadAPI, or unset ISTHMUS_IDENTITY_DIR if dir comes from there")
	case elsewhere:
		i.Dir = ""
	default:
		c.required("identity.dir", &i.Dir)
	}
	c.dials("identity.ca", &i.CA, CAPort, "10.0.0.4:15010")
	c.path("identity.token", &i.Token)
	if fromCA && i.Token == "" {
		c.fault("identity.token", "is missing: write the file that isthmus pki token -o FILE writes")
	} else if !fromCA && i.Token != "" {
		c.fault("identity.token", "is of no use without identity.ca: write the addresses of this cluster's CAs, such as [10.0.0.4:15010]")
	}
	i.completeFirstTrust(c, fromCA)
	if !fromCA && i.IstioName {
		c.fault("identity.istioName", "is of no use without identity.ca: make the certificate with isthmus pki workload --istio-name")
	}
	if socket, ok := strings.CutPrefix(i.WorkloadAPI, "unix://"); i.WorkloadAPI != "" && (!ok || !filepath.IsAbs(socket)) {
		c.fault("identity.workloadAPI", "%q is no socket: write its path, such as unix:///run/spire/agent.sock", i.WorkloadAPI)
	}
}

// completeFirstTrust checks fingerprint, roots and cluster. Whether a fingerprint is one is
// told where it is read.
func (i *Identity) completeFirstTrust(c *completer, fromCA bool) {
	c.path("identity.roots", &i.Roots)
	known := i.fromServiceAccount()
	switch {
	case len(i.Fingerprint) > maxRoots:
		c.fault("identity.fingerprint", "has %d entries: at most %d are read", len(i.Fingerprint), maxRoots)
	case len(i.Fingerprint) > 0 && i.Roots != "":
		c.fault("identity.roots", "stands beside identity.fingerprint: write one of them")
	case known && !fromCA:
		c.fault("identity.fingerprint", "and identity.roots are of no use without identity.ca: write the addresses of this cluster's CAs, such as [10.0.0.4:15010]")
	case known:
		c.label("identity.cluster", string(i.Cluster), "write the cluster whose CAs may be shown the token, such as west")
	case i.Cluster != "" && c.doc.Has("identity.cluster"):
		c.fault("identity.cluster", "is of no use without identity.fingerprint or identity.roots: a token of isthmus pki token names its cluster")
	}
}

// fromServiceAccount reports whether the token is that of a Kubernetes service account.
func (i *Identity) fromServiceAccount() bool { return len(i.Fingerprint) > 0 || i.Roots != "" }

// TrustDomain is another trust domain whose clusters are part of the mesh.
type TrustDomain struct {
	// The trust domain, such as other.example. Required.
	Name string `yaml:"name"`
	// Its clusters in this mesh. Required. A cluster belongs to one trust domain: what
	// others say in its name is refused.
	Clusters []mesh.ClusterName `yaml:"clusters"`
	// A PEM file with roots to begin with. From then on what a bundle says counts that one
	// of them has signed, so that its rotations and revocations are followed.
	Roots string `yaml:"roots"`
	// Or the fingerprint of one of its roots, sha256:HEX, as isthmus pki fingerprint
	// prints it.
	Fingerprint string `yaml:"fingerprint"`
}

func (t *TrustDomain) complete(c *completer, key string) {
	if t.Name == "" {
		c.fault(key+".name", "is missing: write the trust domain, such as other.example")
	}
	if len(t.Clusters) == 0 {
		c.fault(key+".clusters", "is missing: write its clusters, such as [paris]: nothing of it is accepted otherwise")
	}
	for i, name := range t.Clusters {
		if err := mesh.CheckLabel(string(name)); err != nil {
			c.fault(fmt.Sprintf("%s.clusters[%d]", key, i), "%v", err)
		}
	}
	if (t.Roots == "") == (t.Fingerprint == "") {
		c.fault(key, "needs either roots, a PEM file, or fingerprint, that of one of its roots")
	}
	c.path(key+".roots", &t.Roots)
}

// Log says what a process logs.
type Log struct {
	// The least severe level that is logged: debug, info, warn or error.
	// Default: info.
	Level LogLevel `yaml:"level" flag:"debug, info, warn or error"`
	// text (key=value) or json (one object a line).
	Format LogFormat `yaml:"format" flag:"text or json"`
}

// Audit says where a process writes down what it decided about others.
type Audit struct {
	// A file to which one JSON object a line is appended: registrations, tunnels,
	// catalogs, certificates and refused calls, of which equal ones are counted by the minute. It may be rotated by renaming it.
	// Default: none.
	File string `yaml:"file" flag:"file to which decisions are appended"`
	// Which calls are part of it: refused, or all.
	Calls AuditCalls `yaml:"calls" flag:"refused or all"`
}

// AuditCalls says which calls are part of the audit stream.
type AuditCalls string

// The choices of AuditCalls.
const (
	AuditRefused AuditCalls = "refused"
	AuditAll     AuditCalls = "all"
)

// UnmarshalText reads "refused" or "all".
func (a *AuditCalls) UnmarshalText(b []byte) error {
	return choose(a, b)
}

// Choices returns the words.
func (AuditCalls) Choices() []AuditCalls { return []AuditCalls{AuditRefused, AuditAll} }

// LogLevel is the least severe level that is logged. The zero value is info.
type LogLevel slog.Level

// UnmarshalText reads "debug", "info", "warn" or "error".
func (l *LogLevel) UnmarshalText(b []byte) error {
	if slices.Contains(l.Choices(), string(b)) {
		return (*slog.Level)(l).UnmarshalText(b)
	}
	return fmt.Errorf("%q is no log level: write %s", b, orList(l.Choices()))
}

// Choices returns the words.
func (*LogLevel) Choices() []string { return []string{"debug", "info", "warn", "error"} }

// LogFormat is the form of log lines.
type LogFormat string

// The forms of log lines.
const (
	LogText LogFormat = "text" // key=value
	LogJSON LogFormat = "json" // one object a line
)

// UnmarshalText reads "text" or "json".
func (f *LogFormat) UnmarshalText(b []byte) error {
	return choose(f, b)
}

// Choices returns the words.
func (LogFormat) Choices() []LogFormat { return []LogFormat{LogText, LogJSON} }
