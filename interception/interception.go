package interception

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/hooks"
	"github.com/isthmus-mesh/isthmus/interception/nft"
	"github.com/isthmus-mesh/isthmus/interception/sockmap"
)

// What callers need of package hooks, which documents each.
type (
	Config    = hooks.Config
	OnFailure = hooks.OnFailure
	Sockets   = hooks.Sockets
)

// ErrNoCgroup2 means that cgroup v2 is not mounted.
var ErrNoCgroup2 = hooks.ErrNoCgroup2

// Way is how the program's traffic is brought to the sidecar.
type Way int

// The ways.
const (
	EBPF     Way = iota // by hooks on the program's cgroup
	NFTables            // by a table of redirections: outbound only, and root only
	Pod                 // somebody else has done it, in the pod that this process is in
)

// Probe finds out what this machine and this process can do by eBPF.
func Probe() hooks.Support { return hooks.Probe() }

// CgroupRoot is where cgroup v2 is mounted.
func CgroupRoot() (string, error) { return hooks.CgroupRoot() }

// CgroupRootOf is where the process of a /proc directory sees it.
func CgroupRootOf(proc string) (string, error) { return hooks.CgroupRootOf(proc) }

// Start puts interception in place for the sidecar that this process is, and removes
// what a sidecar of the other way left, whose refusals would stand in the way. By eBPF
// without root it opens what root has attached, which must be as cfg says. In a pod there
// is nothing to do, and cfg is not used.
func Start(way Way, cfg Config) (h *Handle, err error) {
	switch {
	case way == Pod:
		return &Handle{}, nil
	case way == NFTables:
		if h, err = redirect(cfg); err == nil {
			_, err = hooks.Detach(cfg.Directory, cfg.Name)
		}
	case os.Geteuid() == 0:
		if h, err = Attach(cfg); err == nil {
			if _, err = nft.Remove(cfg.Name); err == nil {
				err = h.claim(cfg)
			}
		}
	default:
		if h, err = Open(cfg.Directory, cfg.Name); err == nil {
			err = h.claim(cfg)
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Attach puts the hooks in place, or brings what is in place to this configuration and
// version, and opens them. It needs root. When the first call fails, nothing is left.
func Attach(cfg Config) (*Handle, error) {
	h, err := hooks.Attach(cfg)
	if err != nil {
		return nil, err
	}
	return accelerable(h)
}

// Open opens what [Attach] has put in place, without root. An empty base is the usual
// pin directory.
func Open(base, name string) (*Handle, error) {
	h, err := hooks.Open(base, name)
	if err != nil {
		return nil, err
	}
	return accelerable(h)
}

func accelerable(h *hooks.Handle) (*Handle, error) {
	s, err := sockmap.Open(h.Maps())
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &Handle{hooks: h, sockmap: s}, nil
}

// redirect puts the nftables table in place. What cfg says of pins is not used.
func redirect(cfg Config) (*Handle, error) {
	fault := func(err error) (*Handle, error) { return nil, fmt.Errorf("redirect %s: %w", cfg.Name, err) }
	if err := cfg.Validate(); err != nil {
		return fault(err)
	}
	switch {
	case cfg.OnFailure == hooks.FailOpen:
		return fault(errors.New("onFailure open needs eBPF: nftables cannot tell that no sidecar is there; write closed"))
	case len(cfg.Inbound) > 0:
		return fault(errors.New("inbound ports need eBPF: leave them out and have callers come to the sidecar's own port"))
	case len(cfg.Captured) > nft.MaxCaptured:
		return fault(fmt.Errorf("%d captured prefixes: at most %d by nftables; use shorter prefixes or eBPF", len(cfg.Captured), nft.MaxCaptured))
	}
	path, id, err := hooks.ResolveCgroup(cfg.Cgroup)
	if err != nil {
		return fault(err)
	}
	root, err := CgroupRoot()
	if err != nil {
		return fault(err)
	}
	below, err := filepath.Rel(root, path)
	if err != nil || below == "." || strings.HasPrefix(below, "..") {
		return fault(fmt.Errorf("cgroup %s is not below %s", path, root))
	}
	if err := nft.Redirect(nft.Config{
		Name: cfg.Name, CgroupID: id, CgroupLevel: strings.Count(below, "/") + 1,
		Captured: cfg.Captured, OutboundPort: cfg.OutboundPort, DNSPort: cfg.DNSPort,
	}); err != nil {
		return fault(err)
	}
	return &Handle{table: cfg.Name}, nil
}

// Detach removes what was put in place under a name, hooks or table, and reports
// whether there was anything. It needs root. Established connections go on. It is an
// error while a sidecar runs with the hooks.
func Detach(base, name string) (removed bool, err error) {
	byHooks, err := hooks.Detach(base, name)
	if err != nil {
		return false, err
	}
	byTable, err := nft.Remove(name)
	return byHooks || byTable, err
}

// Attached lists the names that have hooks pinned below base or, for root, a table;
// sorted. An empty base is the usual pin directory.
func Attached(base string) ([]string, error) {
	names, err := hooks.Attached(base)
	if err != nil {
		return nil, err
	}
	tables, err := nft.Names()
	if err != nil && !errors.Is(err, unix.EPERM) {
		return nil, err
	}
	names = append(names, tables...)
	slices.Sort(names)
	return slices.Compact(names), nil
}
