package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// page reads a page of the node's admin port.
func (n *node) page(ctx context.Context, address, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // what we ask is not to look like a descriptor that it lost
		DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			err = hosts.Within(n.Name, func() error {
				var d net.Dialer
				c, err = d.DialContext(ctx, network, address)
				return err
			})
			return c, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return b, err
}

// settled waits until every process is ready, and every gateway has a tunnel to every
// other and sees every instance.
func (w *world) settled(ctx context.Context, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := w.settledNow(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (w *world) settledNow(ctx context.Context) error {
	for _, n := range append(append([]*node(nil), w.callers...), w.services...) {
		if _, err := n.page(ctx, n.admin, "readyz"); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		a, err := n.status(ctx)
		if err != nil || a.Sidecar == nil {
			return fmt.Errorf("%s: no status: %w", n.Name, err)
		}
		if problem := unlinked(a.Sidecar); problem != "" {
			return fmt.Errorf("%s %s", n.Name, problem)
		}
	}
	want := map[string]uint32{}
	for _, s := range instances {
		want[s.cluster.Name+" shop/"+s.service]++
	}
	for _, n := range w.gateways {
		a, err := n.status(ctx)
		if err != nil || a.Gateway == nil {
			return fmt.Errorf("%s: no status: %w", n.Name, err)
		}
		if problem := unsettled(a.Gateway, len(w.gateways), want); problem != "" {
			return fmt.Errorf("%s %s", n.Name, problem)
		}
	}
	return nil
}

func (n *node) status(ctx context.Context) (status.Answer, error) {
	b, err := n.page(ctx, n.admin, "status")
	if err != nil {
		return status.Answer{}, err
	}
	return status.Parse(b)
}

// unlinked says which gateway does not know of a sidecar's service; "" when all do.
func unlinked(s *status.Sidecar) string {
	for _, g := range s.Gateways {
		if len(s.Services) > 0 && !g.Registered {
			return fmt.Sprintf("is not registered with gateway %s: %s", g.Address, g.LastError)
		}
	}
	return ""
}

// unsettled says what a gateway does not see yet; "" when it sees everything.
func unsettled(g *status.Gateway, gateways int, want map[string]uint32) string {
	if !g.Ready {
		return "is not ready: " + status.Explain(g.Pending)
	}
	if len(g.Gateways) != gateways {
		return fmt.Sprintf("sees %d gateways", len(g.Gateways))
	}
	for _, p := range g.Gateways {
		if p.Tunnel == "down" || p.Gossip == "dead" {
			return fmt.Sprintf("has tunnel %s and gossip %s to %s", p.Tunnel, p.Gossip, p.ID)
		}
	}
	ready := map[string]uint32{} // at the port that has least
	for _, s := range g.Services {
		for _, c := range s.Clusters {
			name := string(c.Cluster) + " " + s.Service.String()
			if least, ok := ready[name]; c.Reachable && (!ok || c.Ready < least) {
				ready[name] = c.Ready
			}
		}
	}
	for name, n := range want {
		if ready[name] != n {
			return fmt.Sprintf("sees %d ready of %s, not %d", ready[name], name, n)
		}
	}
	return ""
}

// sample is what a process holds.
type sample struct {
	rss         int // KiB
	descriptors int
	goroutines  int
	streams     int // of shared connections to other sidecars, in use
}

// sample measures the node's process of isthmus.
func (n *node) sample(ctx context.Context) (s sample, err error) {
	pid := n.isthmus.PID()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return s, err
	}
	s.descriptors = len(fds)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return s, err
	}
	s.rss = number(b, "VmRSS:")
	if b, err = n.page(ctx, n.admin, "metrics"); err != nil {
		return s, err
	}
	s.goroutines = number(b, "go_goroutines")
	a, err := n.status(ctx)
	if err != nil || a.Sidecar == nil {
		return s, err
	}
	for _, u := range a.Sidecar.Upstreams {
		for _, h := range u.Local {
			s.streams += h.Streams
		}
	}
	return s, nil
}

// number is the second word of the line whose first is name.
func number(b []byte, name string) int {
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == name {
			f, _ := strconv.ParseFloat(words[1], 64)
			return int(f)
		}
	}
	return 0
}
