package federation

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// deadly are packets that have ended a process with memberlist in it, and relatives.
var deadly = [][]byte{
	make([]byte, 45),                       // encryption version 0, one block of zeros
	append([]byte{1}, make([]byte, 44)...), // encryption version 1
	{10, 0, 0, 0, 0},                       // encrypted, and empty
	{9, 0x82, 0xa4, 'A', 'l', 'g', 'o', 0, 0xa3, 'B', 'u', 'f', 0xa0}, // compressed, and empty
	bytes.Repeat([]byte{7, 1, 0, 0}, 200),                             // compounds
	{244, 0}, {12, 0, 0, 0, 0}, {7}, {7, 255}, {0}, {5, 0x80}, {6, 0x80}, {255},
	// What ended each gateway that had a gossip key, here of zeros, and read it unchecked:
	encrypted(0, nil, bytes.Repeat([]byte{0xff}, 16)), // pkcs7decode: more padding than there is
	encrypted(0, nil, nil),                            // pkcs7decode: nothing
	encryptedStream(0, bytes.Repeat([]byte{0xff}, 16)),
	encryptedStream(1, nil), // its first byte is read, and there is none
}

// encrypted is a message as memberlist encrypts it under a key of zeros.
func encrypted(version byte, authenticated, plain []byte) []byte {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return gcm.Seal(append([]byte{version}, nonce...), nonce, plain, authenticated)
}

// encryptedStream is the same on a stream: behind its type and its length.
func encryptedStream(version byte, plain []byte) []byte {
	head := []byte{10, 0, 0, 0, byte(len(encrypted(version, nil, plain)))}
	return append(head, encrypted(version, head, plain)...)
}

func TestNoPacketOfAnybodyEndsAGateway(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		east.await("west-1", 10*time.Second, sees(west))
		stranger, err := w.net.listen(northAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		to, _ := net.ResolveUDPAddr("udp", eastAddr)
		for _, b := range deadly {
			if err := west.tunnel.SendPacket(east.id, b); err != nil {
				t.Fatal(err)
			}
			if _, err := stranger.WriteTo(append([]byte{1}, b...), to); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if n := testutil.ToFloat64(east.metrics.droppedMalformed); n != float64(len(deadly)) {
			t.Errorf("%v of %d packets are counted as dropped", n, len(deadly))
		}
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
		east.await("orders all the same", 10*time.Second, offers("shop/orders", "west"))
	})
}

func TestNoAnswerOnAGossipStreamEndsAGateway(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		said := make(chan []byte, 1)
		hostile := func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodConnect {
					h.ServeHTTP(rw, r)
					return
				}
				c, question, err := rw.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				_, _ = question.Read(make([]byte, 4096)) // the question
				_, _ = c.Write(<-said)
			})
		}
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}, wrap: hostile})
		go func() { said <- nil }() // east joins it as soon as they meet
		east.await("west-1", 10*time.Second, func(v *View) bool {
			g := gatewayOf(v, west.id)
			return g != nil && g.Tunnel.Up
		})
		for _, b := range deadly {
			go func() { said <- b }()
			_, err := east.list.Load().Join([]string{gossip.JoinAddress(west.id)})
			if err == nil && !bytes.Equal(b, []byte{6, 0x80}) { // a push/pull of no nodes is none of the deadly
				t.Errorf("%q was taken for an answer", b)
			}
		}
		if testutil.ToFloat64(east.metrics.streamsRefused) == 0 {
			t.Error("nothing is counted as refused")
		}
	})
}

func TestAPeersGossipStreamsAreFew(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		east.await("west-1", 10*time.Second, sees(west))
		accepted := 0
		for range 10 { // and say nothing
			s, err := west.tunnel.Open(t.Context(), east.id)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Abort()
			if c, err := connectGossip(s, time.Second); err == nil {
				defer c.Close()
				accepted++
			}
		}
		if accepted != maxPeerGossipStreams {
			t.Errorf("%d streams are served at once, want %d", accepted, maxPeerGossipStreams)
		}
	})
}

func TestNobodyTellsAGatewayGossipKeys(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		east.await("west-1", 10*time.Second, sees(west))
		body := []byte(`{"keys":[{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","created":9000000000000000}]}`)
		err := west.client.request(t.Context(), east.id, http.MethodPost, "/gossip/keys", body, func(r *http.Response) error {
			if r.StatusCode != http.StatusNotFound {
				t.Errorf("answered %s", r.Status)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestAPanicOfTheCheckIsAnError(t *testing.T) {
	var none []byte
	_, err := checked(func() (byte, error) { return none[len(none)], nil })
	if err == nil || !strings.Contains(err.Error(), "panic") {
		t.Error(err)
	}
}

// channels is a transport that gives memberlist what a test puts in.
type channels struct {
	memberlist.NodeAwareTransport // nil: what is not below is not called
	packets                       chan *memberlist.Packet
	streams                       chan net.Conn
}

func (c channels) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return gossip.NodeAddr(west1), gossip.Port, nil
}
func (c channels) PacketCh() <-chan *memberlist.Packet { return c.packets }
func (c channels) StreamCh() <-chan net.Conn           { return c.streams }
func (c channels) Shutdown() error                     { return nil }
func (c channels) WriteToAddress([]byte, memberlist.Address) (time.Time, error) {
	return time.Now(), nil
}

func (c channels) DialAddressTimeout(memberlist.Address, time.Duration) (net.Conn, error) {
	return nil, io.EOF
}

// Whatever passes the check, memberlist survives. It parses in goroutines of its own:
// a panic ends the test's process.
func FuzzWhatPassesTheCheckIsNoHarmToMemberlist(f *testing.F) {
	peer := mesh.GatewayID{Cluster: "east", Name: "east-1"}
	tr := channels{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	c := memberlist.DefaultWANConfig()
	c.Name, c.Transport, c.RequireNodeNames, c.EnableCompression = gossip.NodeName(west1), tr, true, false
	c.BindPort, c.AdvertisePort = gossip.Port, gossip.Port
	c.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = list.Shutdown() })
	for _, b := range deadly {
		f.Add(b)
	}
	for _, b := range written(f, peer) {
		f.Add(b)
	}
	check := gossip.Check{Self: west1, Peer: peer}
	from := &net.UDPAddr{IP: gossip.NodeAddr(peer), Port: gossip.Port}
	f.Fuzz(func(t *testing.T, b []byte) {
		if messages, err := check.Packet(b); err == nil {
			for _, m := range messages {
				tr.packets <- &memberlist.Packet{Buf: m, From: from, Timestamp: time.Now()}
			}
		}
		if said, err := check.Stream(bytes.NewReader(b)); err == nil {
			ours, theirs := net.Pipe()
			tr.streams <- ours
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			_, _ = theirs.Write(said)
			theirs.Close()
		}
	})
}

// written are packets and streams of a real memberlist.
func written(f *testing.F, id mesh.GatewayID) (all [][]byte) {
	tap := &recorder{channels: channels{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}, said: make(chan []byte, 100)}
	c := memberlist.DefaultWANConfig()
	c.Name, c.Transport, c.RequireNodeNames, c.EnableCompression = gossip.NodeName(id), tap, true, false
	c.BindPort, c.AdvertisePort = gossip.Port, gossip.Port
	c.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		f.Fatal(err)
	}
	defer list.Shutdown()
	_, _ = list.Join([]string{gossip.JoinAddress(west1)})
	_ = list.SendBestEffort(&memberlist.Node{Name: gossip.NodeName(west1), Addr: gossip.NodeAddr(west1), Port: gossip.Port}, nil)
	for {
		select {
		case b := <-tap.said:
			all = append(all, b)
		default:
			return all
		}
	}
}

// recorder keeps what memberlist says.
type recorder struct {
	channels
	said chan []byte
}

func (r *recorder) WriteToAddress(b []byte, _ memberlist.Address) (time.Time, error) {
	r.said <- bytes.Clone(b)
	return time.Now(), nil
}

func (r *recorder) DialAddressTimeout(memberlist.Address, time.Duration) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		b := make([]byte, 1<<16)
		n, _ := theirs.Read(b)
		r.said <- b[:n]
		theirs.Close()
	}()
	return ours, nil
}
