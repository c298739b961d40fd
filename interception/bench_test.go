package interception

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkConnect measures connect and close of a program over loopback: with
// nothing attached, to an address that is not of the mesh beside the hooks, and
// captured by the hooks. What the sidecar does for it is not in the figures.
func BenchmarkConnect(b *testing.B) {
	for _, c := range []struct {
		name string
		put  func(*host)
	}{
		{"nothing", func(*host) {}},
		{"hooks/not-mesh", func(h *host) { h.config.Captured = []netip.Prefix{mesh4, mesh6}; h.serve() }},
		{"hooks/captured", func(h *host) { h.serve() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := newHost(b)
			addr, _ := counted(b)
			c.put(h)
			out, err := h.child("connects", addr, strconv.Itoa(b.N)).Output()
			if err != nil {
				b.Fatal(err)
			}
			ns, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(ns/float64(b.N), "ns/op")
		})
	}
}
