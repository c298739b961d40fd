package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestOneTCPConnectionCarriesMeshAndForeignQuestionsAtOnce(t *testing.T) {
	up := outside(t, func(network string, b []byte) [][]byte { return echo(network, b) })
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	var packets [][]byte
	for i := range 200 {
		q := question(fmt.Sprintf("s%d.example.com", i), dns.TypeA)
		if i%2 == 0 {
			q = question("orders.shop.mesh", dns.TypeA)
		}
		q.Id = uint16(i)
		b, _ := q.Pack()
		packets = append(packets, b)
	}
	seen := map[uint16]bool{}
	for _, b := range talk(t, addrOf(s), "tcp", packets...) {
		id := uint16(b[0])<<8 | uint16(b[1])
		if foreign := bytes.HasSuffix(b, []byte{0xde, 0xad}); seen[id] || foreign == (id%2 == 0) {
			t.Errorf("answer %d: seen before %v, from outside %v", id, seen[id], foreign)
		}
		seen[id] = true
	}
	if len(seen) != len(packets) {
		t.Errorf("%d answers", len(seen))
	}
}

func TestAZoneTransferPassesEvenToAClientThatHasEndedItsSide(t *testing.T) {
	const messages = 50
	packet, _ := question("example.com", dns.TypeAXFR).Pack()
	later := append(bytes.Clone(packet[:2]), 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0) // repeats no question
	up := outside(t, func(network string, b []byte) [][]byte {
		return append(echo(network, b), slices.Repeat([][]byte{later}, messages-1)...)
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	c, err := net.Dial("tcp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_ = writeMessage(c, packet)
	_ = c.(*net.TCPConn).CloseWrite()
	want := echo("", packet)[0]
	for i := range messages {
		if b, err := readMessage(c); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("message %d: %x, %v", i, b, err)
		}
		want = later
	}
}

func TestAClientThatEndsItsSideFirstStillGetsItsAnswers(t *testing.T) {
	up := outside(t, echo)
	c := shop()
	c.late, c.waits = make(chan struct{}), make(chan struct{})
	s := serve(t, c, func(c *Config) { c.ResolvConf = naming(up) })
	conn, err := net.Dial("tcp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	for _, name := range []string{"orders.shop.mesh", "example.com"} {
		b, _ := question(name, dns.TypeA).Pack()
		_ = writeMessage(conn, b)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	<-c.waits
	close(c.late)
	for range 2 {
		if _, err := readMessage(conn); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readMessage(conn); !errors.Is(err, io.EOF) {
		t.Errorf("then %v, want the end", err)
	}
}

func TestWhenAServerHangsUpTheClientSeesItAndMayComeAgain(t *testing.T) {
	var n atomic.Int64
	up := outside(t, func(network string, b []byte) [][]byte {
		if n.Add(1) == 1 {
			return [][]byte{nil}
		}
		return append(echo(network, b), nil) // hangs up after every answer
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	packet, _ := question("example.com", dns.TypeA).Pack()
	c, err := net.Dial("tcp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_ = writeMessage(c, packet)
	if _, err := readMessage(c); err == nil {
		t.Error("an answer out of nowhere")
	}
	if got := talk(t, addrOf(s), "tcp", packet)[0]; !bytes.Equal(got, echo("", packet)[0]) {
		t.Errorf("%x", got)
	}
}

func TestTheServerEndsWithWhateverIsOpen(t *testing.T) {
	up := outside(t, func(string, []byte) [][]byte { return nil })
	c := shop()
	c.late, c.waits = make(chan struct{}), make(chan struct{})
	s, err := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Ports: c.ports, Table: open(t, ""), ResolvConf: naming(up)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, addrOf(s).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, name := range []string{"example.com", "orders.shop.mesh"} {
			b, _ := question(name, dns.TypeA).Pack()
			if network == "tcp" {
				_ = writeMessage(conn, b)
			} else {
				_, _ = conn.Write(b)
			}
		}
		<-c.waits
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
