package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// errNoStream says that nginx lacks what its chain needs.
var errNoStream = errors.New("nginx has no stream module: install it (Debian: libnginx-mod-stream)")

// tools are the programs that a run uses.
type tools struct {
	nginx      string
	loadStream string // directive of nginx's configuration
	haproxy    string // empty: not installed
	envoy      string // empty: not installed
	ip         string // empty: not installed
	isthmus    string
	self       string // this program
}

// findTools finds the peers. HAProxy, Envoy and ip may be missing.
func findTools(ctx context.Context) (tools, error) {
	var t tools
	var errs [3]error
	t.nginx, errs[0] = lookPath("nginx")
	if errs[0] == nil {
		t.loadStream, errs[1] = streamModule(ctx, t.nginx)
	}
	t.haproxy, _ = lookPath("haproxy")
	t.envoy, _ = lookPath("envoy")
	t.ip, _ = lookPath("ip")
	t.self, errs[2] = os.Executable()
	return t, errors.Join(errs[:]...)
}

// lookPath finds a program as a shell does, and where Debian keeps daemons.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, sbinErr := exec.LookPath(filepath.Join(dir, name)); sbinErr == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: install it (scripts/bench does)", err)
}

// buildIsthmus builds the program that this source tree is.
func buildIsthmus(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "isthmus")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/isthmus-mesh/isthmus")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build isthmus: %w (run this inside its source tree, or name a binary with -isthmus)", err)
	}
	return path, nil
}

// versions says what was compared.
func (t *tools) versions(ctx context.Context) []string {
	first := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%s: version unknown: %v", filepath.Base(name), err)
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	_, nginx, _ := strings.Cut(first(t.nginx, "-v"), "version: ")
	v := []string{nginx}
	if t.haproxy != "" {
		// HAProxy version 2.6.12-1+deb12u4 2026/10/17 - …
		if f := strings.Fields(first(t.haproxy, "-v")); len(f) > 2 {
			v = append(v, "haproxy/"+f[2])
		}
	}
	if t.envoy != "" {
		// …/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL
		_, version, _ := strings.Cut(first(t.envoy, "--version"), "version: ")
		if parts := strings.Split(version, "/"); len(parts) > 1 {
			version = parts[1]
		}
		v = append(v, "envoy/"+version)
	}
	return v
}
