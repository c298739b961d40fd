package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAConnectionInUseShowsRenewedCertificatesBothWays(t *testing.T) {
	w := newWorld(t)
	issue := func(cluster mesh.ClusterName, account string, ttl time.Duration) *identity.Credential {
		c, err := w.mesh.Cluster(cluster).Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: account}, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	source := func(c *identity.Credential) *identity.Source {
		s, err := c.Source()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w.caller, w.orders = source(issue("east", "caller", time.Minute)), source(issue("west", "orders", time.Minute))
	shown := make(chan time.Time, 10) // by the caller: the ends of its certificates
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, func(c net.Conn) {
		over := tls.Server(c, w.orders.ServerTLS(identitytest.AnyWorkload(), "http/1.1"))
		defer over.Close()
		if over.Handshake() == nil {
			shown <- over.ConnectionState().PeerCertificates[0].NotAfter
			_, _ = io.Copy(over, over)
		}
	}), ordersWest)})
	_, conn := mustGet(t, s)
	if got := <-shown; !got.Equal(w.caller.NotAfter()) {
		t.Fatalf("shown at first is one until %s", got)
	}
	conn.Refresh() // nothing ends soon
	mine, theirs := issue("east", "caller", time.Hour), issue("west", "orders", time.Hour)
	for source, c := range map[*identity.Source]*identity.Credential{w.caller: mine, w.orders: theirs} {
		if err := source.Replace(c.Material()); err != nil {
			t.Fatal(err)
		}
	}
	due := int64(s.shared.now())
	conn.refreshAt.Store(due)
	conn.Refresh()
	conn.Refresh() // it is under way
	if got := <-shown; !got.Equal(mine.NotAfter()) {
		t.Errorf("shown is one until %s, the renewed one ends %s", got, mine.NotAfter())
	}
	for conn.refreshAt.Load() < due+int64(time.Minute) { // until this end has seen the other's
		time.Sleep(time.Millisecond)
	}
	if len(shown) > 0 {
		t.Error("it was shown twice")
	}
	if _, err := conn.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cs, trusts, _ := conn.Proof()
	if err := trusts(cs); err != nil {
		t.Error(err)
	}
}
