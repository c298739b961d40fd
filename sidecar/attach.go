package sidecar

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/sidecar/dns"
)

// Attach makes the program's cgroup when it does not exist and puts interception
// in place for a sidecar with this configuration, which uid and gid run. It needs
// root.
func Attach(cfg *config.Sidecar, uid, gid int, log *slog.Logger) (*interception.Handle, error) {
	cgroup, err := openCgroup(&cfg.Interception)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	put, err := interceptionConfig(cfg, cgroup.Name(), log)
	if err != nil {
		return nil, err
	}
	put.UID, put.GID = uid, gid
	return interception.Attach(put)
}

func interceptionConfig(cfg *config.Sidecar, cgroup string, log *slog.Logger) (interception.Config, error) {
	i := &cfg.Interception
	ports, err := steeredPorts(cfg)
	if err != nil {
		return interception.Config{}, err
	}
	return interception.Config{
		Name: i.Name, Cgroup: cgroup, Captured: dns.Prefixes(),
		OutboundPort: i.OutboundPort, DNSPort: i.DNSPort, OnFailure: interception.OnFailure(i.OnFailure), Log: log,
		Inbound: ports,
	}, nil
}

// Detach removes what Attach put in place under a name, and the cgroup of that
// name when no program is left in it, and reports whether there was anything. It
// needs root.
func Detach(name string) (removed bool, err error) {
	root, err := interception.CgroupRoot()
	if err != nil {
		return false, err
	}
	path := filepath.Join(root, config.CgroupOf(name))
	if cgroup, err := os.Open(path); err == nil {
		defer cgroup.Close()
		if err := claimCgroup(cgroup); err != nil {
			return false, err
		}
	}
	if removed, err = interception.Detach("", name); err != nil {
		return removed, err
	}
	err = unix.Rmdir(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBUSY) {
		return removed, nil // another one was configured, or the program runs on
	}
	return true, err
}

// openCgroup opens the program's cgroup, which root makes when it is not there.
func openCgroup(cfg *config.Interception) (*os.File, error) {
	path := cfg.Cgroup
	if !filepath.IsAbs(path) {
		root, err := interception.CgroupRoot()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(root, path)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("make the program's cgroup: %w", err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the program's cgroup: %w: run isthmus intercept attach as root", err)
	}
	return f, nil
}

// claimCgroup locks the program's cgroup for as long as it is open.
func claimCgroup(cgroup *os.File) error {
	if err := unix.Flock(int(cgroup.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("a sidecar captures cgroup %s: stop it, or give another an interception.name of its own", cgroup.Name())
	}
	return nil
}
