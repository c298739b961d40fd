package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/file"
	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
	"github.com/isthmus-mesh/isthmus/internal/webhook"
	"github.com/isthmus-mesh/isthmus/sidecar"
)

// Check is `isthmus check`.
func Check() *cobra.Command {
	var path, role, kubeconfig, namespace string
	var kubernetes bool
	var format output
	cmd := &cobra.Command{
		Use:   "check -c FILE | --kubernetes",
		Short: "Say everything that is wrong with a configuration, or what a Kubernetes cluster lacks",
		Long: `Reads a gateway's, sidecar's, CA's or webhook's configuration file and says everything that is
wrong with it at once, each with file, line, key and what to write instead.
It looks at what the file names, too: the certificate, the resource files, the
state directory, and whether the ports are free. It changes nothing.

With --kubernetes it says what a cluster lacks instead, before the chart is
installed and after: its version, its kinds, the Secret with the intermediate, the
nodes' kernels, what may be created, whether the webhook answers, and CoreDNS.

Exit code: 0 nothing is wrong, 1 something is, 2 the command was misused.`,
		Example: `  isthmus check -c gateway.yaml
  isthmus check -c sidecar.yaml -o json
  isthmus check --kubernetes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case kubernetes && (path != "" || role != ""):
				return usageError{errors.New("--kubernetes is about a cluster: write it without a file and its role")}
			case kubernetes:
				return runCheckKubernetes(cmd.Context(), cmd.OutOrStdout(), kubeconfig, namespace, format)
			case path == "":
				return usageError{errors.New("which file? write isthmus check -c FILE, or isthmus check --kubernetes for a cluster")}
			}
			switch config.Role(role) {
			case "", config.GatewayRole, config.SidecarRole, config.CARole, config.WebhookRole:
			default:
				return usageError{fmt.Errorf("--role %q: write gateway, sidecar, ca or webhook", role)}
			}
			return runCheck(cmd.Context(), cmd.OutOrStdout(), path, config.Role(role), format)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&role, "role", "", "gateway, sidecar, ca or webhook (default: guessed from the keys)")
	cmd.Flags().BoolVar(&kubernetes, "kubernetes", false, "check a Kubernetes cluster")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: KUBECONFIG, else ~/.kube/config)")
	cmd.Flags().StringVar(&namespace, "namespace", "isthmus-system", "namespace of the chart")
	format.flag(cmd)
	return cmd
}

func runCheck(ctx context.Context, w io.Writer, path string, role config.Role, format output) error {
	c := check{Path: path, Role: role, Faults: []strictyaml.Fault{}, Notes: []string{}}
	guessed, err := config.GuessRole(path)
	switch {
	case err != nil: // what would be found in the defaults instead is not in the file
		c.add(err)
	case role == "" && guessed == "":
		return usageError{fmt.Errorf("%s can be a gateway's, a sidecar's or a CA's: say which with --role", path)}
	default:
		c.Role = cmp.Or(role, guessed)
		switch c.Role {
		case config.GatewayRole:
			c.gateway(ctx)
		case config.SidecarRole:
			c.sidecar(ctx)
		case config.CARole:
			c.ca(ctx)
		case config.WebhookRole:
			c.webhook(ctx)
		}
	}
	c.OK = len(c.Faults) == 0
	return writeFound(w, format, c, c.Faults, c.Notes, fmt.Sprintf("%s: nothing is wrong with this %s", c.Path, c.Role))
}

// writeFound writes what a check has found: as JSON, or each fault and note on a line of its own,
// and good when there is no fault. A fault is an error, of which no more is said.
func writeFound[Fault any](w io.Writer, format output, c any, faults []Fault, notes []string, good string) error {
	if format.json() {
		if err := writeJSON(w, c); err != nil {
			return err
		}
	} else {
		var b strings.Builder
		for _, f := range faults {
			fmt.Fprintln(&b, f)
		}
		for _, n := range slices.Compact(notes) {
			fmt.Fprintln(&b, "note:", n)
		}
		switch len(faults) {
		case 0:
			fmt.Fprintln(&b, good)
		case 1:
			fmt.Fprintln(&b, "1 fault")
		default:
			fmt.Fprintf(&b, "%d faults\n", len(faults))
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return silentError{fmt.Errorf("%d faults", len(faults))}
	}
	return nil
}

// check collects what is found out about one file.
type check struct {
	Path   string             `json:"file"`
	Role   config.Role        `json:"role,omitempty"`
	OK     bool               `json:"ok"`
	Faults []strictyaml.Fault `json:"faults"`
	Notes  []string           `json:"notes"`
}

// add takes what a loader returned: all the faults in it, however they are
// joined, and any other error as a fault of the file.
func (c *check) add(err error) {
	c.addAt("", err)
}

// addAt is add for what a key names: an error without a place of its own is a
// fault of that key's value.
func (c *check) addAt(key string, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			c.addAt(key, e)
		}
		return
	}
	if faults, ok := errors.AsType[strictyaml.Faults](err); ok {
		c.Faults = append(c.Faults, faults...)
		return
	}
	if fault, ok := errors.AsType[strictyaml.Fault](err); ok {
		c.Faults = append(c.Faults, fault)
		return
	}
	if refused, ok := errors.AsType[*config.KeyError](err); ok {
		c.at(refused.Key, refused.Problem)
		return
	}
	c.at(key, err.Error())
}

// at adds what is wrong with the value of a key, unless a fault of that key or of
// one around it has been told: then the value is not what the file says.
func (c *check) at(key, problem string) {
	for _, f := range c.Faults {
		if f.Source == c.Path && f.Key != "" && (key == f.Key || strings.HasPrefix(key, f.Key+".")) {
			return
		}
	}
	c.Faults = append(c.Faults, config.FaultAt(c.Path, c.Role, key, problem))
}

func (c *check) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

func (c *check) gateway(ctx context.Context) {
	cfg, err := config.LoadGateway(c.Path, nil)
	c.add(err)
	c.identity(gateway.Process(cfg))
	if err == nil {
		c.add(gateway.Check(cfg))
	}
	if cfg.Resources != "" {
		c.resources(cfg.Resources)
	}
	if c.state(cfg.State) {
		c.port(ctx, "udp", "listen.tunnel", cfg.Listen.Tunnel)
		c.port(ctx, "tcp", "listen.mesh", cfg.Listen.Mesh)
		c.port(ctx, "tcp", "listen.xds", cfg.Listen.XDS)
		c.operatorPorts(ctx, cfg.Listen.Admin, cfg.Listen.Metrics, cfg.Listen.Profiles)
	}
}

func (c *check) sidecar(ctx context.Context) {
	cfg, err := config.LoadSidecar(c.Path, nil)
	c.add(err)
	source := c.identity(sidecar.Process(cfg))
	if err == nil {
		c.add(sidecar.Check(cfg))
		if source != nil {
			c.account(source.ID(), cfg.Served())
		}
		c.served(cfg.Served())
	}
	c.interception(&cfg.Interception)
	if c.state(cfg.State) {
		if len(cfg.Served()) > 0 {
			c.port(ctx, "tcp", "listen.inbound", cfg.Listen.Inbound)
		}
		c.operatorPorts(ctx, cfg.Listen.Admin, cfg.Listen.Metrics, cfg.Listen.Profiles)
		if i := cfg.Interception; i.Mode != config.Explicit {
			c.port(ctx, "tcp", "interception.outboundPort", fmt.Sprintf("127.0.0.1:%d", i.OutboundPort))
			c.port(ctx, "tcp", "interception.dnsPort", fmt.Sprintf("127.0.0.1:%d", i.DNSPort))
			c.port(ctx, "udp", "interception.dnsPort", fmt.Sprintf("127.0.0.1:%d", i.DNSPort))
		}
		for i, u := range cfg.Upstreams {
			c.port(ctx, "tcp", fmt.Sprintf("upstreams[%d].listen", i), u.Listen)
		}
	}
}

func (c *check) ca(ctx context.Context) {
	cfg, err := config.LoadCA(c.Path, nil)
	c.add(err)
	if err == nil {
		c.add(ca.Check(cfg))
	}
	if authority, err := identity.OpenAuthority(cfg.Authority); err == nil {
		c.expiry("the intermediate", cfg.Authority, authority.NotAfter())
	}
	if c.state(cfg.State) {
		c.port(ctx, "tcp", "listen.grpc", cfg.Listen.GRPC)
		c.operatorPorts(ctx, cfg.Listen.Admin, cfg.Listen.Metrics, cfg.Listen.Profiles)
	}
}

func (c *check) webhook(ctx context.Context) {
	cfg, err := config.LoadWebhook(c.Path, nil)
	c.add(err)
	if err == nil {
		c.add(webhook.Check(cfg))
	}
	c.port(ctx, "tcp", "listen.webhook", cfg.Listen.Webhook)
	c.operatorPorts(ctx, cfg.Listen.Admin, cfg.Listen.Metrics, cfg.Listen.Profiles)
}

// interception says which modes this machine can do, and what stands against the
// one that is asked for.
func (c *check) interception(cfg *config.Interception) {
	if i, err := interception.Open("", cfg.Name); err == nil {
		c.note("interception %s is attached", cfg.Name)
		_ = i.Close() // only maps, read by nobody
		return
	}
	support := interception.Probe()
	missing := support.Err()
	switch {
	case missing == nil:
		c.note("this machine can do interception.mode explicit, ebpf and nftables")
	case cfg.Mode == config.EBPF:
		for _, f := range support.Checks {
			if !f.Required || f.Err == nil {
				continue
			}
			do := "write auto or explicit"
			if f.Name == "privilege" {
				do = "have root run isthmus intercept attach once, or " + do
			}
			c.at("interception.mode", fmt.Sprintf("ebpf: %s: %v; %s", f.Name, f.Err, do))
		}
	default:
		also := ", and nftables as root"
		if _, err := interception.CgroupRoot(); err != nil { // its table tells the program by its cgroup, too
			also = ""
		}
		c.note("this machine can do interception.mode explicit%s; ebpf lacks %s", also, strings.ReplaceAll(missing.Error(), "\n", "; "))
	}
}

// soon is when an expiry is worth a note: time to make a new certificate.
const soon = 7 * 24 * time.Hour

// identity says what is wrong with who the process will be. It returns that when it is on
// this machine.
func (c *check) identity(p enroll.Process) *identity.Source {
	if whom := identity.OtherReaders(p.Identity.Token); whom != "" {
		c.note("%s may read the token in %s, and be whom it makes: chmod 600 %[2]s", whom, p.Identity.Token)
	}
	source, err := enroll.Check(p)
	c.add(err)
	switch {
	case err != nil:
	case source == nil && p.Identity.WorkloadAPI != "":
		c.note("the certificate comes from the agent at %s, which listens", p.Identity.WorkloadAPI)
	case source == nil:
		c.note("the first certificate comes from %s, by the token in %s", strings.Join(p.Identity.CA, ", "), p.Identity.Token)
	case p.Identity.Dir != "":
		c.expiry("the certificate", p.Identity.Dir, source.NotAfter())
	case time.Now().After(source.WarnFrom()):
		c.expiry("the certificate", p.State, source.NotAfter())
	}
	return source
}

// expiry notes that something ends soon.
func (c *check) expiry(what, dir string, end time.Time) {
	if left := time.Until(end); left < soon {
		c.note("%s in %s expires in %s, at %s", what, dir, left.Round(time.Minute), end.Format(time.RFC3339))
	}
}

// account says when the gateways will not take a workload for the service.
// served says what is served, where that is more than one port, and which readiness is a
// guess.
func (c *check) served(all []config.Served) {
	for _, s := range all {
		if len(all) > 1 {
			c.note("serves %s port %d/%s by the program at %s", s.Name, s.Port, s.Protocol, s.Target)
		}
		if s.Protocol == mesh.GRPC && s.Health.Kind == health.TCP {
			c.note("%s: the program counts as ready when it accepts connections: write health: {type: grpc} to have it asked by grpc.health.v1", s.Key)
		}
	}
}

func (c *check) account(id identity.ID, served []config.Served) {
	if !id.IsWorkload() {
		return
	}
	var noted []mesh.ServiceName
	for _, service := range served {
		if id.Namespace == service.Name.Namespace && id.ServiceAccount != service.Name.Name && !slices.Contains(noted, service.Name) {
			noted = append(noted, service.Name)
			c.note("the certificate is of service account %s and the service is %s: the gateways register it only where their Service resource %s has serves: [%s]",
				id.ServiceAccount, service.Name, service.Name, id.ServiceAccount)
		}
	}
}

func (c *check) resources(dir string) {
	resources, err := file.Check(dir)
	c.addAt("resources", err)
	c.policies(dir, resources)
	for _, d := range resources.Services {
		if len(d.Service.Ports) == 0 {
			c.note("%s has no Service with ports in %s: what stands there is about sidecars that register it", d.Service.Name, dir)
		} else if !slices.ContainsFunc(d.Service.Ports, func(p mesh.ServicePort) bool { return len(p.Endpoints) > 0 }) {
			c.note("service %s has no endpoints in %s: only sidecars that register it serve it", d.Service.Name, dir)
		} else if d.Check.Kind == health.None {
			c.note("service %s has health checks off: its endpoints count as ready even when they are dead", d.Service.Name)
		}
	}
}

// policies notes those that are about services which the directory does not have: a name
// that is mistyped protects nothing.
func (c *check) policies(dir string, all file.Resources) {
	known := map[mesh.ServiceName]bool{}
	for i := range all.Services {
		known[all.Services[i].Service.Name] = true
	}
	for i := range all.Policies {
		p := &all.Policies[i]
		for _, name := range p.Services {
			if s := (mesh.ServiceName{Namespace: p.Namespace, Name: name}); !known[s] {
				c.note("%s is about service %s, of which %s has no Service: it counts once sidecars register that", p, s, dir)
			}
		}
	}
}

// state reports whether the ports are worth a look: a running process with
// this state directory has them, as it should.
func (c *check) state(dir string) bool {
	if dir == "" {
		return false
	}
	err := config.CheckState(dir, c.Role)
	if errors.Is(err, config.ErrStateInUse) {
		c.note("a %s with state directory %s is running: whether the ports are free was not checked", c.Role, dir)
		return false
	}
	if err != nil {
		c.at("state", err.Error())
	}
	return true
}
