package hooks

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
)

// OnFailure says what becomes of captured traffic while no sidecar is there.
type OnFailure string

// The two policies. The zero value is FailClosed.
const (
	// FailClosed refuses it: nothing ever leaves in the clear.
	FailClosed OnFailure = "closed"
	// FailOpen lets it by, to the address that the program asked for.
	FailOpen OnFailure = "open"
)

// Config is what [Attach] puts in place.
type Config struct {
	// Name tells the sidecars of a host apart; it names the pin directory.
	Name string
	// Directory holds one directory per Name. It is on a bpffs, or becomes one:
	// Attach mounts a bpffs there when it is not. Empty: [DefaultDirectory].
	Directory string
	// UID and GID own the pins that the sidecar needs. Zero: root.
	UID, GID int

	// Cgroup is the program's cgroup, absolute or below the mount of cgroup v2
	// wherever that is. It must exist, and the sidecar must not be in it.
	Cgroup string

	// Captured are the addresses whose TCP connections go to the sidecar.
	Captured []netip.Prefix
	// OutboundPort is where the sidecar accepts them, on 127.0.0.1 and ::1.
	OutboundPort uint16
	// DNSPort is where the sidecar answers DNS, UDP and TCP, on 127.0.0.1 and
	// ::1. Zero: DNS is left alone.
	DNSPort uint16
	// Inbound are ports of the program, in the network namespace of the caller,
	// whose TCP connections go to the sidecar. They are fixed here, by root: a
	// sidecar without privilege cannot take a port that it was not given.
	Inbound []uint16

	OnFailure OnFailure

	Log *slog.Logger // nil: what is logged is discarded
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("name %q: use lower-case letters, digits and dashes, at most 63", name)
	}
	return nil
}

// Validate fills in the defaults and reports every fault of the configuration at once.
func (c *Config) Validate() error {
	*c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := checkName(c.Name); err != nil {
		faults = append(faults, err)
	}
	if c.Cgroup == "" {
		fault("no cgroup: name the one that the program runs in")
	}
	if len(c.Captured) > 0 && c.OutboundPort == 0 {
		fault("captured addresses without an outbound port: say where the sidecar listens")
	}
	if len(c.Captured) > maxCaptured {
		fault("%d captured prefixes: at most %d; use shorter prefixes", len(c.Captured), maxCaptured)
	}
	for _, p := range c.Captured {
		if !p.IsValid() {
			fault("captured prefix %q is not valid", p)
			continue
		}
		for _, own := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			if p.Contains(own) {
				fault("captured prefix %s holds %s, where the sidecar listens: leave it out", p, own)
			}
		}
	}
	if len(c.Inbound) > maxInboundPorts {
		fault("%d inbound ports: at most %d", len(c.Inbound), maxInboundPorts)
	}
	if slices.Contains(c.Inbound, 0) {
		fault("inbound port 0: name the port that the program listens on")
	}
	if c.OnFailure != FailClosed && c.OnFailure != FailOpen {
		fault("onFailure %q: write closed or open", c.OnFailure)
	}
	return errors.Join(faults...)
}

// withDefaults returns c with what was left out.
func (c Config) withDefaults() Config {
	if c.OnFailure == "" {
		c.OnFailure = FailClosed
	}
	if c.Directory == "" {
		c.Directory = DefaultDirectory
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// directory is where the pins of one sidecar are.
type directory string

func directoryOf(base, name string) directory {
	if base == "" {
		base = DefaultDirectory
	}
	return directory(filepath.Join(base, name))
}

func (d directory) maps() string           { return filepath.Join(string(d), "maps") }
func (d directory) links() string          { return filepath.Join(string(d), "links") }
func (d directory) link(n string) string   { return filepath.Join(string(d), "links", n) }
func (d directory) pinned(n string) string { return filepath.Join(string(d), "maps", n) }
