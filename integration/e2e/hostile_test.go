package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	bin "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// newConfinedMesh is newMesh with certificates of clusters that name namespaces.
func newConfinedMesh(t *testing.T, namespaces map[string]string) *testMesh {
	t.Helper()
	m := newMesh(t)
	for cluster, names := range namespaces {
		m.isthmus("pki", "cluster", cluster, "--namespaces", names, "-d", m.path("pki"))
	}
	return m
}

// hostile is a gateway of cluster evil that keeps no rule. It holds the cluster's CA key, so it
// is whatever that may sign, says what it likes of anybody's catalog, and answers every path.
type hostile struct {
	t     *testing.T
	ca    *identity.Authority
	self  mesh.GatewayID
	id    *identity.Source
	node  *tunnel.Node
	fed   *federation.Federation // for gossip, which it needs to be asked anything
	heads []catalog.Head
	whole map[mesh.GatewayID][]byte // bodies of GET /catalog?origin=…
	asked atomic.Int64              // paths that came
}

func (h *hostile) issue(id identity.ID) *identity.Source {
	h.t.Helper()
	c, err := h.ca.Issue(identity.Request{ID: id, TTL: time.Hour})
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// claim has the gateway list and hand out a catalog, signed by by.
func (h *hostile) claim(by *identity.Source, origin mesh.GatewayID, epoch uint64, records ...string) {
	h.t.Helper()
	d := catalog.Delta{Head: catalog.Head{Origin: origin, Version: catalog.Version{Epoch: epoch, Seq: 1}}, Whole: true}
	for _, r := range records {
		d.Records = append(d.Records, catalog.DeltaRecord{Name: nameOf(h.t, r), Seq: 1, Raw: json.RawMessage(r)})
	}
	d.Head.Digest = digestOf(d.Records)
	sig, err := by.Sign(d.Head.SignedBytes())
	if err != nil {
		h.t.Fatal(err)
	}
	h.whole[origin] = jsonLines(h.t, map[string]any{"head": d.Head, "signature": sig, "whole": true, "records": len(d.Records)}, d.Records)
	h.heads = append(h.heads, d.Head)
}

// jsonLines are the bytes of an answer about catalogs.
func jsonLines[T any](t *testing.T, head any, rest []T) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(head)
	for _, x := range rest {
		err = errors.Join(err, e.Encode(x))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// nameOf is the service of a record.
func nameOf(t *testing.T, record string) string {
	t.Helper()
	var e struct{ Service string }
	if err := json.Unmarshal([]byte(record), &e); err != nil {
		t.Fatal(err)
	}
	return e.Service
}

// digestOf is the digest of records, as package catalog's comment draws it.
func digestOf(records []catalog.DeltaRecord) catalog.Digest {
	sums := map[string][]byte{}
	for _, r := range records {
		b := appendText(nil, r.Name)
		b = append(bin.BigEndian.AppendUint64(b, r.Seq), r.Raw...)
		sum := sha256.Sum256(b)
		sums[r.Name] = sum[:]
	}
	all := []byte("isthmus catalog 1\n")
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		all = append(all, sums[name]...)
	}
	return catalog.Digest(sha256.Sum256(all))
}

func appendText(b []byte, s string) []byte {
	return append(bin.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// ServeHTTP answers what other gateways ask in tunnels.
func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect && r.Host != "gossip":
		h.asked.Add(1)
		h.answer(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/catalog" && !r.URL.Query().Has("origin"):
		_, _ = w.Write(jsonLines(h.t, map[string]any{"origins": len(h.heads), "mesh_address": "127.0.0.1:1"}, h.heads))
	case r.Method == http.MethodGet && r.URL.Path == "/catalog":
		id, _ := mesh.ParseGatewayID(r.URL.Query().Get("origin"))
		_, _ = w.Write(h.whole[id])
	default:
		h.fed.Handler().ServeHTTP(w, r)
	}
}

// answer takes a path and ends its TLS as a workload of the service's namespace, or
// as this gateway for a plain one.
func (h *hostile) answer(w http.ResponseWriter, r *http.Request) {
	dest, err := mesh.ParseDestination(r.Host)
	if err != nil {
		return
	}
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write(connect.AppendOpened(nil, connect.Opened{Instance: connect.Instance{Cluster: "evil", Name: "evil"}})); err != nil {
		return
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	id := h.id
	if h.self.Name != "evil-plain" {
		id = h.issue(identity.ID{Namespace: dest.Service.Namespace, ServiceAccount: dest.Service.Name})
	}
	over := identity.Server(&prefixed{c, io.MultiReader(bytes.NewReader(bytes.Clone(early)), c)}, id.ServerTLS(identity.AnyMember(), "http/1.1"))
	ln := &oneConn{conn: over, done: make(chan struct{})}
	srv := &http.Server{
		ReadHeaderTimeout: limit,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "evil/evil") }),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				ln.once.Do(func() { close(ln.done) })
			}
		},
	}
	_ = srv.Serve(ln)
}

type prefixed struct {
	net.Conn
	r io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) { return p.r.Read(b) }

// oneConn is a listener that gives one connection and ends with it.
type oneConn struct {
	conn  net.Conn
	given atomic.Bool
	once  sync.Once
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.given.CompareAndSwap(false, true) {
		return l.conn, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// runHostile starts a gateway of evil that has tunnels to others.
func runHostile(m *testMesh, name mesh.GatewayName, prepare func(h *hostile), others ...*gatewayProc) *hostile {
	m.t.Helper()
	ca, err := identity.OpenCluster(m.path("pki"), "evil")
	if err != nil {
		m.t.Fatal(err)
	}
	h := &hostile{t: m.t, ca: ca, self: mesh.GatewayID{Cluster: "evil", Name: name}, whole: map[mesh.GatewayID][]byte{}}
	h.id = h.issue(identity.ID{Gateway: name})
	prepare(h)
	if h.node, err = tunnel.New(tunnel.Config{Self: h.self, Identity: h.id, Listen: tunnel.ListenUDP("127.0.0.1:0")}); err != nil {
		m.t.Fatal(err)
	}
	var join []string
	for _, o := range others {
		join = append(join, o.tunnel)
	}
	if h.fed, err = federation.New(federation.Config{Self: h.self, Tunnel: h.node, Identity: h.id, Join: join}); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	srv := &http.Server{Handler: h, ReadHeaderTimeout: limit, ConnContext: tunnel.ConnContext}
	running.Go(func() { _ = h.node.Run(ctx) })
	running.Go(func() { _ = h.fed.Run(ctx) })
	running.Go(func() { _ = srv.Serve(h.node.Listener()) })
	m.t.Cleanup(func() { cancel(); _ = srv.Close(); running.Wait() })
	return h
}

// record is a catalog's record as the wire has it.
func record(service, protocol string, ids ...string) string {
	b, err := json.Marshal(ids)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"service":%q,"ports":[{"port":80,"protocol":%q,"ready":9,"total":9,"capacity":9000,"identities":%s}]}`, service, protocol, b)
}

// TestAHostileClusterAnswersForNothingButItsOwnNamespaces has a cluster do whatever its CA key
// allows while the others call each other.
func TestAHostileClusterAnswersForNothingButItsOwnNamespaces(t *testing.T) {
	t.Parallel()
	m := newConfinedMesh(t, map[string]string{"east": "shop", "west": "shop", "evil": "lair"})
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "evil/evil") }))
	defer program.Close()
	evilProgram := program.Listener.Addr().String()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "west/plain") }))
	defer plain.Close()

	east, west := m.gateway("east", "east-1"), m.gateway("west", "west-1")
	port := freePorts(t, 1)[0]
	m.sidecar("west", "orders-west", "shop/orders", "http", port, "", binary, "demo", "serve", "--listen", port, "--cluster", "west", "--instance", "orders")
	west.service(t, "shop/lion", "http", plain.Listener.Addr().String())
	m.settled(map[string]uint32{"west shop/orders": 1, "west shop/lion": 1})

	// A gateway and a sidecar of this program, with what an operator there can write.
	evil := m.gateway("evil", "evil-1")
	for _, name := range []string{"shop/orders", "shop/lion", "lair/den"} {
		evil.service(t, name, "http", evilProgram)
	}
	m.sidecar("evil", "thief", "shop/orders", "http", evilProgram, "")
	// And gateways that keep no rule at all.
	const td = "spiffe://e2e.example/cluster/"
	w := func(c, ns, sa string) string { return td + c + "/ns/" + ns + "/sa/" + sa }
	lies := func(h *hostile) {
		me := h.id.ID().String()
		own := []string{
			record("shop/orders", "http", w("evil", "shop", "orders")),
			record("shop/lion", "http", me),
			record("lair/pit", "http", w("evil", "lair", "pit"), me),
			record("lair/theft", "http", w("west", "shop", "orders")),
			record("lair/more", "http", w("evil", "shop", "orders")),
		}
		later := uint64(time.Now().Add(time.Hour).UnixMilli())
		h.claim(h.id, h.self, later, own...)
		// More gateways, which only say something, and another word on the protocol.
		for i := range 5 {
			made := h.issue(identity.ID{Gateway: mesh.GatewayName(fmt.Sprintf("made-up-%d", i))})
			h.claim(made, made.ID().GatewayID(), later, record("shop/orders", "tcp", w("evil", "shop", "orders")), record("shop/lion", "tcp", made.ID().String()))
		}
		// What others offer, changed or gone, from any time.
		for i, other := range []mesh.GatewayID{{Cluster: "west", Name: "west-1"}, {Cluster: "west", Name: "west-9"}, {Cluster: "east", Name: "east-1"}} {
			h.claim(h.id, other, uint64(1)<<(40+i*10), record("shop/orders", "http", w("evil", "shop", "orders")))
		}
	}
	hostiles := []*hostile{runHostile(m, "evil-2", lies, east, west), runHostile(m, "evil-plain", lies, east, west)}

	m.eventually(func() error { return triedBy(east, "evil/evil-2", "evil/evil-plain") })

	callers := map[string]*sidecarProc{}
	for i, service := range []string{"shop/orders", "shop/lion", "lair/pit"} {
		callers[service] = m.sidecar("east", fmt.Sprintf("caller-%d", i), "shop/caller", "", "", service)
	}
	m.answers("http://"+callers["lair/pit"].listener+"/", "evil/evil") // its own it may
	var answered atomic.Int64
	var calling sync.WaitGroup
	for _, service := range []string{"shop/orders", "shop/lion"} {
		url := "http://" + callers[service].listener + "/"
		m.eventually(func() error { // the first answer counts like any other
			code, body, err := get(url)
			if strings.HasPrefix(body, "evil/") {
				t.Fatalf("%s: answered %q", service, body)
			}
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("%s: %d %q, %w", service, code, body, err)
			}
			return nil
		})
		for range 8 { // more than one path at a time
			calling.Go(func() {
				for end := time.Now().Add(3 * time.Second); time.Now().Before(end); answered.Add(1) {
					code, body, err := get(url)
					if err != nil || code != http.StatusOK || !strings.HasPrefix(body, "west/") {
						t.Errorf("%s: %d %q, %v, after %d", service, code, body, err, answered.Load())
						return
					}
				}
			})
		}
	}
	calling.Wait()
	t.Logf("answered by west: %d; paths that led to the hostile gateways: %d, for their own service", answered.Load(), hostiles[0].asked.Load()+hostiles[1].asked.Load())

	out := statusText(east)
	for _, want := range []string{"LEFT OUT OF evil/evil-2", "cluster evil may not offer namespace shop: its certificate names lair"} {
		if !strings.Contains(out, want) {
			t.Errorf("isthmus status does not say %q:\n%s", want, out)
		}
	}
}

// triedBy returns an error unless status of g says of each gateway that it offers what it may not.
func triedBy(g *gatewayProc, gateways ...string) error {
	s, err := g.status()
	if err != nil {
		return err
	}
	left := map[string]int{}
	for _, o := range s.Origins {
		if o.LeftOutTotal > 0 {
			left[o.Origin.String()] = o.LeftOutTotal
		}
	}
	for _, name := range gateways {
		if left[name] == 0 {
			return fmt.Errorf("status of %s says that something is left out of %v, want %s", g.name, left, name)
		}
	}
	return nil
}

// TestAPlainEndpointTakesNoCallsFromASidecarOfAnotherCluster is the mesh whose certificates name no
// namespaces.
func TestAPlainEndpointTakesNoCallsFromASidecarOfAnotherCluster(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west", "evil")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "evil/evil") }))
	defer program.Close()
	east := m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	evil := m.gateway("evil", "evil-1")
	evil.service(t, "shop/orders", "http", program.Listener.Addr().String())
	port := freePorts(t, 1)[0]
	m.sidecar("west", "orders-west", "shop/orders", "http", port, "", binary, "demo", "serve", "--listen", port, "--cluster", "west", "--instance", "orders")
	m.settled(map[string]uint32{"west shop/orders": 1, "evil shop/orders": 1})
	caller := m.sidecar("east", "caller", "shop/caller", "", "", "shop/orders")
	m.answers("http://"+caller.listener+"/", "west/orders")
	for range 200 {
		if code, body, err := get("http://" + caller.listener + "/"); err != nil || code != http.StatusOK || body != "west/orders\n" {
			t.Fatalf("%d %q, %v", code, body, err)
		}
	}
	out := statusText(east)
	if !strings.Contains(out, "gets nothing: its endpoints have no identity") || !strings.Contains(out, "plain") {
		t.Errorf("isthmus status does not say who offers it, too:\n%s", out)
	}
}

// statusText is what isthmus status prints, which fails while anything is wrong.
func statusText(g *gatewayProc) string {
	out, _ := exec.Command(binary, "status", "--admin", g.admin).CombinedOutput()
	return string(out)
}
