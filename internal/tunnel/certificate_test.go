package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// issue makes a certificate of a gateway that expires after ttl.
func (w *world) issue(id mesh.GatewayID, ttl time.Duration) *identity.Credential {
	w.t.Helper()
	c, err := w.mesh.Cluster(id.Cluster).Issue(identity.Request{ID: identity.ID{Gateway: id.Name}, TTL: ttl})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestATunnelEndsWithItsFirstCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		short := w.issue(gatewayID(t, "east/e1"), time.Minute)
		source, err := short.Source()
		if err != nil {
			t.Fatal(err)
		}
		east := w.start("east/e1", eastAddr, func(c *Config) { c.Identity = source })
		west := w.start("west/w1", westAddr)
		east.dials(west)
		west.await(t, east.id, "connected", connections(defaultConnections))
		p := west.await(t, east.id, "down", isDown)
		if late := time.Since(short.NotAfter()); late < 0 || late > 2*tick {
			t.Errorf("down %v after the expiry", late)
		}
		if !strings.Contains(p.LastError, "expired") {
			t.Errorf("error %q, want it to say what expired", p.LastError)
		}
		time.Sleep(time.Minute)
		if p := west.peer(east.id); p.State != Down {
			t.Errorf("a gateway without a valid certificate is %s", p.State)
		}
		t.Log(east.TargetStates()[0].LastError)
	})
}

func TestATunnelIsReplacedBeforeItsCertificateExpires(t *testing.T) {
	w := newWorld(t, nil)
	id := gatewayID(t, "east/e1")
	dir := t.TempDir()
	if err := w.issue(id, renewLead-time.Second).Save(dir, true); err != nil {
		t.Fatal(err)
	}
	source, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan error, 1)
	go func() { followed <- source.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-followed; err != nil {
			t.Error(err)
		}
	}()
	east := w.start("east/e1", "127.0.0.1:0", func(c *Config) { c.Identity = source })
	west := w.start("west/w1", "127.0.0.1:0")
	west.echoes(t)
	east.dials(west)
	east.await(t, west.id, "connected", connections(defaultConnections))
	if err := w.issue(id, time.Hour).Save(dir, true); err != nil {
		t.Fatal(err)
	}
	east.await(t, west.id, "connected again", connections(2*defaultConnections))
	s := east.open(t, west)
	if left := time.Until(s.conn.expires); left < renewLead {
		t.Errorf("a stream was opened on a tunnel that ends in %v", left)
	}
	checkEcho(t, s, "hello")
}

// expiring is a source of a certificate that lives for ttl.
func (w *world) expiring(id mesh.GatewayID, ttl time.Duration) *identity.Source {
	w.t.Helper()
	source, err := w.issue(id, ttl).Source()
	if err != nil {
		w.t.Fatal(err)
	}
	return source
}

func renew(t *testing.T, source *identity.Source, c *identity.Credential) {
	t.Helper()
	if err := source.Replace(c.Material()); err != nil {
		t.Fatal(err)
	}
}

func TestAPeerThatRenewsItsCertificateInTimeKeepsItsStreams(t *testing.T) {
	for _, who := range []string{"east/e1", "west/w1"} { // who dials, who is dialled
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newNetwork(time.Millisecond))
				id := gatewayID(t, who)
				source := w.expiring(id, time.Minute)
				use := func(c *Config) {
					if c.Self == id {
						c.Identity = source
					}
				}
				east, west := w.start("east/e1", eastAddr, use), w.start("west/w1", westAddr, use)
				east.dials(west)
				west.echoes(t)
				east.await(t, west.id, "connected", connections(defaultConnections))
				s := east.open(t, west)
				ends, since := source.NotAfter(), east.peer(west.id).Since
				time.Sleep(45 * time.Second)
				renew(t, source, w.issue(id, time.Hour))
				time.Sleep(10 * time.Second)
				young := east.open(t, west)
				if left := time.Until(young.conn.expires); left < time.Minute {
					t.Errorf("a stream was opened on a connection that ends in %v", left)
				}
				checkEcho(t, young, "by the new connection")
				time.Sleep(10 * time.Minute)
				if time.Now().Before(ends) || s.conn == young.conn {
					t.Fatal("the test does not test what it should")
				}
				checkEcho(t, s, "by the old one")
				time.Sleep(10 * time.Second)
				for _, p := range []Peer{east.peer(west.id), west.peer(east.id)} {
					if p.Connections != defaultConnections || p.State != Up || p.Left || p.LastError != "" {
						t.Errorf("in the end: %+v", p)
					}
				}
				if p := east.peer(west.id); !p.Since.Equal(since) {
					t.Errorf("the tunnel was down until %v", p.Since)
				}
			})
		})
	}
}

func TestStreamsOfAnOlderCertificateEndWhenItsRootIsTrustedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		eastID, westID := gatewayID(t, "east/e1"), gatewayID(t, "west/w1")
		eastSource := w.expiring(eastID, time.Minute)
		westSource := w.expiring(westID, time.Hour)
		east := w.start("east/e1", eastAddr, func(c *Config) { c.Identity = eastSource })
		west := w.start("west/w1", westAddr, func(c *Config) { c.Identity = westSource })
		east.dials(west)
		west.echoes(t)
		east.await(t, west.id, "connected", connections(defaultConnections))
		s := east.open(t, west)
		time.Sleep(45 * time.Second)
		renew(t, eastSource, w.issue(eastID, time.Hour))
		time.Sleep(time.Minute)
		other, err := identitytest.New(t, "mesh.example").Cluster("west").Issue(identity.Request{ID: identity.ID{Gateway: "w1"}})
		if err != nil {
			t.Fatal(err)
		}
		renew(t, westSource, other)
		_, err = s.Read(make([]byte, 1))
		wantError(t, err, ErrTunnelLost)
		_ = s.Close()
	})
}

func TestATunnelEndsWhenItsPeersRootIsTrustedNoMore(t *testing.T) {
	w := newWorld(t, nil)
	dir := w.mesh.GatewayDir("east", "e1")
	source, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var follow sync.WaitGroup
	follow.Go(func() { _ = source.Run(ctx) })
	defer follow.Wait()
	defer cancel()
	east := w.start("east/e1", "127.0.0.1:0", func(c *Config) { c.Identity = source })
	west := w.start("west/w1", "127.0.0.1:0")
	east.dials(west)
	east.await(t, west.id, "connected", connections(defaultConnections))
	// The root's key was stolen: east gets another root.
	c, err := identitytest.New(t, "mesh.example").Cluster("east").Issue(identity.Request{ID: identity.ID{Gateway: "e1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(dir, true); err != nil {
		t.Fatal(err)
	}
	east.await(t, west.id, "down", isDown)
	west.await(t, east.id, "down", isDown)
}

func TestAPeerThatIsRevokedCanBeToldSoBeforeItsTunnelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		source := w.mesh.Gateway("east", "e1")
		east := w.start("east/e1", eastAddr, func(c *Config) { c.Identity = source })
		west := w.start("west/w1", westAddr)
		east.dials(west)
		west.echoes(t)
		east.await(t, west.id, "connected", connections(defaultConnections))
		revoked, err := identity.Bundle{TrustDomain: "mesh.example", Number: 1, Roots: []*x509.Certificate{w.mesh.Root.Certificate()},
			Revoked: []identity.Revocation{{What: "spiffe://mesh.example/cluster/west"}}}.Sign(w.mesh.Root)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := source.Trust().Accept(revoked.Bytes()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is judged
		s := east.open(t, west)
		checkEcho(t, s, "a bundle")
		_ = s.Close()
		east.await(t, west.id, "down", isDown)
		if took := time.Since(begun); took < lastWords || took > lastWords+3*tick {
			t.Errorf("its tunnel ended after %v", took)
		}
	})
}

// TestOnlyGatewaysOfTheMeshGetIn dials an endpoint as others would.
func TestOnlyGatewaysOfTheMeshGetIn(t *testing.T) {
	w := newWorld(t, nil)
	var said lockedBuffer
	stream := filepath.Join(t.TempDir(), "audit.json")
	decisions, err := audit.Open(stream, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	west := w.start("west/w1", "127.0.0.1:0", func(c *Config) {
		c.Log, c.Audit = slog.New(slog.NewTextHandler(&said, nil)), decisions
	})
	addr := west.LocalAddr()
	other := identitytest.New(t, "other.example")
	sameName := identitytest.New(t, "mesh.example")
	noALPN := w.mesh.Gateway("east", "e1").ClientTLS(serverName, identity.AnyGateway(), "h3")
	refusals := []string{"expected a gateway", "other.example"}
	for who, conf := range map[string]*tls.Config{
		"a workload":                      w.mesh.Workload("east", "shop", "orders").ClientTLS(serverName, identity.AnyGateway(), alpn),
		"a gateway of another mesh":       anyPeer(other.Gateway("east", "e1").ClientTLS(serverName, identity.AnyGateway(), alpn)),
		"a gateway of another root":       anyPeer(sameName.Gateway("east", "e1").ClientTLS(serverName, identity.AnyGateway(), alpn)),
		"a client without a certificate":  {InsecureSkipVerify: true, NextProtos: []string{alpn}},
		"a gateway with another protocol": noALPN,
	} {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		transport := &quic.Transport{Conn: conn}
		// TLS 1.3 tells the client of a refused certificate after its handshake.
		c, err := transport.Dial(t.Context(), addr, conf, quicConfig())
		if err == nil {
			<-c.Context().Done()
			err = context.Cause(c.Context())
		}
		if why, label := connError(err); label != "tls" {
			t.Errorf("%s: %v, want the TLS handshake to fail", who, why)
		}
		closeTransport(transport, conn)
	}
	if peers, _ := west.Peers(); len(peers) != 0 {
		t.Errorf("peers: %+v", peers)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := decisions.Run(over); err != nil { // it writes what is queued
		t.Fatal(err)
	}
	audited, err := os.ReadFile(stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range refusals {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, said.String())
		}
		if !strings.Contains(string(audited), want) {
			t.Errorf("the audit stream does not say %q:\n%s", want, audited)
		}
	}
}

// lockedBuffer is a buffer to log to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// anyPeer makes a client that does not check the server, as one who wants in.
func anyPeer(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	return c
}

func TestASilentClientIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		west := w.start("west/w1", westAddr)
		conn, err := w.net.listen(eastAddr)()
		if err != nil {
			t.Fatal(err)
		}
		transport := &quic.Transport{Conn: conn}
		defer closeTransport(transport, conn)
		for what, say := range map[string][]byte{
			"nothing":   nil,
			"half":      {byte(frameHello), 0},
			"HTTP":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
			"no hello":  appendFrame(nil, frameDone, nil),
			"old hello": appendFrame(nil, frameHello, make([]byte, helloSize)),
		} {
			began := time.Now()
			c, err := transport.Dial(t.Context(), west.LocalAddr(), w.mesh.Gateway("east", "e1").ClientTLS(serverName, identity.AnyGateway(), alpn), quicConfig())
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(say); err != nil {
				t.Fatal(err)
			}
			<-c.Context().Done()
			if _, label := connError(context.Cause(c.Context())); label != "protocol" {
				t.Errorf("who says %s: %v", what, context.Cause(c.Context()))
			}
			if d := time.Since(began); d > acceptTimeout+time.Second {
				t.Errorf("who says %s is sent away after %v", what, d)
			}
		}
		if peers, _ := west.Peers(); len(peers) != 0 {
			t.Errorf("peers: %+v", peers)
		}
	})
}
