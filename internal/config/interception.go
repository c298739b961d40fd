package config

import (
	"regexp"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
)

// Interception says how the program's connections reach the sidecar when the
// program is not configured for it.
type Interception struct {
	// explicit: only the upstreams' listeners. Or what makes
	// the program's connections to mesh addresses and its DNS questions arrive
	// here: ebpf, which needs root once (see 'isthmus intercept attach --help'),
	// nftables, which needs root and, for DNS questions, a route to the nameserver
	// that the program asks, or auto: the first of ebpf, nftables and
	// explicit that this machine can do. pod is for a sidecar in a Kubernetes pod: another
	// process brings the traffic, 'isthmus node' or 'isthmus intercept pod'. The sidecar
	// then has fixed ports, and needs no privilege.
	Mode InterceptionMode `yaml:"mode" flag:"explicit, auto, ebpf, nftables or pod"`
	// What tells the sidecars of one host apart. Default: the first service's
	// instance, or "sidecar".
	Name string `yaml:"name" flag:"name of this sidecar's interception on this host"`
	// The cgroup that the program runs in, as a path below the mount of
	// cgroup v2. Default: isthmus/NAME, where a program behind "--" is started.
	Cgroup string `yaml:"cgroup" flag:"cgroup that the program runs in"`
	// What becomes of captured connections while no sidecar runs:
	// closed (the default) refuses them, open lets them by in the clear.
	OnFailure OnFailure `yaml:"onFailure" flag:"while no sidecar runs: closed or open"`
	// What becomes of connections to the program's own ports (those of
	// service.target, and of services) which do not come through the mesh: strict (the default) refuses
	// them, permissive serves them where the service's policy allows anonymous, off
	// leaves that port alone. It takes mode ebpf or pod. In a pod it is about all ports of
	// all programs but the sidecar's, and there is no off.
	Inbound Inbound `yaml:"inbound" flag:"what callers of the program's own port meet: strict, permissive or off"`
	// on has the bytes between the program and the sidecar go from socket
	// to socket, without TCP. It takes mode ebpf and a program that the sidecar starts:
	// that one is kept from the system calls which do not see such bytes, splice(2)
	// above all. The program must read without blocking, as event loops and their
	// runtimes do (nginx, Node.js, Go, Netty): a read that blocks may fail with
	// EAGAIN.
	Acceleration Acceleration `yaml:"acceleration" flag:"bytes between program and sidecar without TCP: on or off"`
	// Where the sidecar accepts captured connections, on 127.0.0.1 and ::1.
	OutboundPort uint16 `yaml:"outboundPort" flag:"port for captured connections"`
	// Where it answers captured DNS questions, on the same addresses.
	DNSPort uint16 `yaml:"dnsPort" flag:"port for captured DNS questions"`
	// What the kubelet asks of the pod's programs, which asks the sidecar in their place, at
	// /probes/CONTAINER/PROBE of listen.metrics. Injection writes it, as
	// web/livenessProbe=http:8080:%2Fhealthz. It takes mode pod.
	Probes []Probe `yaml:"probes" flag:"what the kubelet asks the sidecar in place of the pod's programs"`
}

// CgroupOf returns the default cgroup of an interception.
func CgroupOf(name string) string { return "isthmus/" + name }

// InterceptionMode is how connections are captured.
type InterceptionMode string

// The modes.
const (
	Explicit InterceptionMode = "explicit"
	Auto     InterceptionMode = "auto"
	EBPF     InterceptionMode = "ebpf"
	NFTables InterceptionMode = "nftables"
	Pod      InterceptionMode = "pod"
)

// UnmarshalText reads the name of a mode.
func (m *InterceptionMode) UnmarshalText(b []byte) error { return choose(m, b) }

// Choices returns the words.
func (InterceptionMode) Choices() []InterceptionMode {
	return []InterceptionMode{Explicit, Auto, EBPF, NFTables, Pod}
}

// OnFailure is what becomes of captured connections while no sidecar runs.
type OnFailure string

// The choices.
const (
	FailClosed OnFailure = "closed"
	FailOpen   OnFailure = "open"
)

// UnmarshalText reads "closed" or "open".
func (f *OnFailure) UnmarshalText(b []byte) error { return choose(f, b) }

// Choices returns the words.
func (OnFailure) Choices() []OnFailure { return []OnFailure{FailClosed, FailOpen} }

// Inbound is what becomes of callers that come past the mesh.
type Inbound string

// The choices.
const (
	InboundStrict     Inbound = "strict"
	InboundPermissive Inbound = "permissive"
	InboundOff        Inbound = "off"
)

// UnmarshalText reads "strict", "permissive" or "off".
func (i *Inbound) UnmarshalText(b []byte) error { return choose(i, b) }

// Choices returns the words.
func (Inbound) Choices() []Inbound { return []Inbound{InboundStrict, InboundPermissive, InboundOff} }

// Acceleration is whether bytes go from socket to socket, without TCP.
type Acceleration string

// The choices.
const (
	AccelerationOn  Acceleration = "on"
	AccelerationOff Acceleration = "off"
)

// UnmarshalText reads "on" or "off".
func (a *Acceleration) UnmarshalText(b []byte) error { return choose(a, b) }

// Choices returns the words.
func (Acceleration) Choices() []Acceleration { return []Acceleration{AccelerationOn, AccelerationOff} }

var interceptionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// complete fills in what was left out.
func (i *Interception) complete(c *completer, served []Served) {
	if i.Name == "" {
		i.Name = "sidecar"
		if len(served) > 0 && interceptionName.MatchString(served[0].Instance) {
			i.Name = served[0].Instance
		}
	}
	if !interceptionName.MatchString(i.Name) {
		c.fault("interception.name", "%q: use at most 63 lower-case letters, digits and hyphens", i.Name)
	}
	if i.Cgroup == "" {
		i.Cgroup = CgroupOf(i.Name)
	}
	if i.Mode == NFTables && i.OnFailure == FailOpen {
		c.fault("interception.onFailure", "nftables cannot tell that no sidecar runs: write closed, or mode ebpf")
	}
	if i.Acceleration == AccelerationOn && !i.hasHooks() {
		c.fault("interception.acceleration", "on takes eBPF: write mode ebpf, or acceleration off")
	}
	i.completeInbound(c, served)
	if i.Mode == Pod && (i.OutboundPort != OutboundPort || i.DNSPort != DNSPort) {
		c.fault("interception.mode", "in a pod the traffic is brought to the ports %d and %d: leave out outboundPort and dnsPort", OutboundPort, DNSPort)
	}
	if len(i.Probes) > 0 && i.Mode != Pod {
		c.fault("interception.probes", "the kubelet asks the sidecars of pods only: write mode pod, or remove it")
	}
	if i.OutboundPort == 0 {
		c.fault("interception.outboundPort", "must be 1 to 65535")
	}
	if i.DNSPort == 0 {
		c.fault("interception.dnsPort", "must be 1 to 65535")
	}
}

// hasHooks reports whether the mode is eBPF, or will be where the machine can do it.
func (i *Interception) hasHooks() bool { return i.Mode == EBPF || i.Mode == Auto }

func (i *Interception) completeInbound(c *completer, served []Served) {
	switch {
	case i.Mode == Pod && i.Inbound == InboundOff:
		c.fault("interception.inbound", "off is not possible in a pod, whose callers are brought here in any case: write strict or permissive")
	case i.Mode == Pod && i.Inbound != "":
	case i.Mode == Pod, i.Inbound == "" && i.hasHooks() && len(served) > 0:
		i.Inbound = InboundStrict
	case i.Inbound == "":
		i.Inbound = InboundOff
	case i.Inbound != InboundOff && !i.hasHooks():
		c.fault("interception.inbound", "%s takes eBPF: write mode ebpf, or inbound off", i.Inbound)
	case i.Inbound != InboundOff && len(served) == 0:
		c.fault("interception.inbound", "%s is for the port of a program, and there is no service: write service, or inbound off", i.Inbound)
	}
	if i.Inbound == InboundOff {
		return
	}
	// Who calls past the mesh names nothing but the program's port.
	first := map[int]string{}
	for _, s := range served {
		at, err := hostport.Parse(s.Target)
		if err != nil || at.Port <= 0 {
			continue // told with the target
		}
		if other, again := first[at.Port]; again {
			c.fault(s.Key+".target", "port %d of the program is that of %s, too, so that it is not clear what callers past the mesh mean: write another, or interception.inbound: off", at.Port, other)
			continue
		}
		first[at.Port] = s.Key
	}
}
