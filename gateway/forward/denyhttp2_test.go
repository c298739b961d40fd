package forward_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestWhoMayNotCallAPlainEndpointByHTTP2IsToldWhyInHTTP2(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	var c callers
	at := plainAt("orders-1", serve(t, echo))
	at.Protocol = mesh.GRPC
	p := newPair(t, m, always(at), forward.Config{}, forward.Config{Authorizer: c.of})
	c.are(t, []uint16{80})
	dial := func(context.Context) (net.Conn, error) {
		for _, ask := range ways {
			return tls.Client(ask(t, p.addr), m.Workload("east", "front", "web").ClientTLS(host, identity.ExactGateway(west1), "h2")), nil
		}
		panic("no way")
	}
	const why = "by default only namespace shop may call shop/orders"

	tr := &http.Transport{Protocols: new(http.Protocols), DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	tr.Protocols.SetHTTP2(true)
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("https://orders.shop.mesh/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 403 || resp.ProtoMajor != 2 || err != nil || !strings.Contains(string(body), why) || !strings.Contains(resp.Header.Get("Proxy-Status"), "http_request_denied") {
		t.Errorf("%s %s %v %q, %v", resp.Proto, resp.Status, resp.Header, body, err)
	}

	cc, err := grpc.NewClient("passthrough:///orders", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	_, err = grpc_health_v1.NewHealthClient(cc).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if s := status.Convert(err); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), why) {
		t.Errorf("gRPC is told %v", err)
	}
}

func FuzzADenialInHTTP2EndsWhateverAClientSays(f *testing.F) {
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82"))
	f.Fuzz(func(t *testing.T, said []byte) {
		answer, err := forward.HTTP2Denial(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard})
		if err == nil && len(answer) > 64<<10 {
			t.Errorf("%d bytes", len(answer))
		}
	})
}
