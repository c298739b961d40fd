package netns

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// servePeer tells each caller whom the program sees.
func servePeer(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(c, "you are", c.RemoteAddr().(*net.TCPAddr).IP)
		c.Close()
	}
}

// callPlain prints what a server says first.
func callPlain(addr string) error {
	c, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	b, err := io.ReadAll(c)
	fmt.Print(string(b))
	return err
}

func TestCallersPastTheMeshAreRefusedOrSeenByTheProgram(t *testing.T) {
	w := theWorld(t)
	caller := w.gateways[0] // another host of the cluster, with no sidecar
	for i, c := range []struct {
		inbound, want string // %s is the caller's address; empty: refused
	}{
		{"strict", ""},
		{"permissive", "you are %s"},
	} {
		t.Run(c.inbound, func(t *testing.T) {
			h := w.guest(t, c.inbound, 16+i)
			argv, err := h.sidecar(c.inbound, intercepting(c.inbound, "mode: ebpf, inbound: "+c.inbound)+
				fmt.Sprintf("service: {name: shop/%s, port: 9000, target: \"127.0.0.1:9000\"}\n", c.inbound))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.start(c.inbound, append(argv, "--", self, "program", "serve-peer", ":9000")...); err != nil {
				t.Fatal(err)
			}
			h.ready(t)
			for to, from := range map[string]string{h.Cluster.V4(h.Number): caller.Cluster.V4(caller.Number), h.Cluster.V6(h.Number): caller.Cluster.V6(caller.Number)} {
				out, err := caller.Command(t.Context(), self, "program", "plain", net.JoinHostPort(to, "9000")).CombinedOutput()
				switch {
				case c.want == "" && (err == nil || !strings.Contains(string(out), "reset")):
					t.Errorf("from %s: %q, %v, want a reset", from, out, err)
				case c.want != "" && string(out) != fmt.Sprintf(c.want+"\n", from):
					t.Errorf("from %s: %q, %v, want "+c.want, from, out, err, from)
				}
			}
			sidecar, err := h.page("metrics")
			if err != nil || !strings.Contains(sidecar, `isthmus_interception_connections_total{direction="inbound",outcome="captured"} 2`) {
				t.Errorf("not both were captured (%v)", err)
			}
		})
	}
}
