package netns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// serveNames is a DNS server on addr, by UDP and TCP, that says of every name that it is at answer.
func serveNames(addr, answer string) error {
	ip, err := netip.ParseAddr(answer)
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					var size [2]byte
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return
					}
					b := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					b = nameAnswer(b, ip)
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
				}
			}()
		}
	}()
	b := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return err
		}
		_, _ = pc.WriteTo(nameAnswer(b[:n], ip), from)
	}
}

// nameAnswer answers a question of Go's resolver: with ip, if it is for an IPv4 address.
func nameAnswer(question []byte, ip netip.Addr) []byte {
	end := 12 + bytes.IndexByte(question[12:], 0) + 5 // the name, its type and class
	r := append([]byte(nil), question[:end]...)
	r[2] |= 0x80
	copy(r[6:12], make([]byte, 6)) // no records
	if r[end-3] == 1 {             // A
		r[7] = 1
		r = append(r, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		r = append(r, ip.AsSlice()...)
	}
	return r
}

// askServer prints what a named DNS server says of a name.
func askServer(ctx context.Context, network, server, name string) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
	all, err := resolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return err
	}
	for _, a := range all {
		fmt.Println(a.Unmap())
	}
	return nil
}

func TestAQuestionToANamedServerIsAnsweredByThatServer(t *testing.T) {
	w := theWorld(t)
	for i, mode := range []string{"ebpf", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			name := "names-" + mode
			h := w.guest(t, name, 40+i)
			servers := map[string]string{"127.0.0.11:53": "192.0.2.11", "127.0.0.12:53": "192.0.2.12"}
			for addr, answer := range servers {
				if _, err := h.start(name+"-"+answer, self, "program", "serve-names", addr, answer); err != nil {
					t.Fatal(err)
				}
			}
			program := h.capture(t, name, "mode: "+mode, "")
			for addr, answer := range servers {
				for _, network := range []string{"udp", "tcp"} {
					ask := argv(self, "program", "ask-server", network, addr, "www.example.com.")
					if err := harness.Eventually(func() error { // the server may start still
						var ran Ran
						return errors.Join(program.agent.Call("Agent.Run", ask, &ran), said(ran, answer))
					}); err != nil {
						t.Errorf("%s by %s: %v", addr, network, err)
					}
					ask.Argv[len(ask.Argv)-1] = "orders.shop.mesh."
					if got := program.run(t, ask); !bytes.HasPrefix([]byte(got), []byte("240.66.")) {
						t.Errorf("%s by %s: a mesh name is at %q", addr, network, got)
					}
				}
			}
		})
	}
}

// said returns an error unless a program has printed the line want and nothing else.
func said(ran Ran, want string) error {
	if ran.Err != "" || ran.Output != want+"\n" {
		return fmt.Errorf("it printed %q (%s), want %q", ran.Output, ran.Err, want)
	}
	return nil
}
