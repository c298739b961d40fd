package forward

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAConnectIsReadAsItWasWritten(t *testing.T) {
	dest := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80, Cluster: "west"}
	exclude := []Exclusion{{Cluster: "east"}, {Cluster: "west", Instance: "orders-2"}}
	via := []string{"east.east-1"}
	wire := append(formatConnect(dest, exclude, via), "\x16\x03\x01"...)

	head, rest, err := readHead(iotest.OneByteReader(bytes.NewReader(wire)), nil)
	if err != nil {
		t.Fatal(err)
	}
	// A reader that gives one byte at a time is not read beyond the head.
	if len(rest) != 0 || len(head)+3 != len(wire) {
		t.Fatalf("head of %d bytes and %d more, of %d", len(head), len(rest), len(wire))
	}
	if head, rest, err = readHead(bytes.NewReader(wire[9:]), bytes.Clone(wire[:9])); err != nil || string(rest) != "\x16\x03\x01" {
		t.Fatalf("rest %q, %v", rest, err)
	}
	c, refusal := parseConnect(head)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if c.Destination != dest || !slices.Equal(c.Exclude, exclude) || !slices.Equal(c.via, via) {
		t.Fatalf("read %+v", c)
	}
	if !c.ExcludesCluster("east") || c.ExcludesCluster("west") ||
		!c.ExcludesInstance("east", "any") || !c.ExcludesInstance("west", "orders-2") || c.ExcludesInstance("west", "orders-1") {
		t.Fatal("the exclusions are not applied as written")
	}
}

func TestAHeadThatIsWrongIsRefusedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		head, want string
		status     int
	}{
		"another method":    {"COPY http://orders.shop.mesh/ HTTP/1.1\r\nHost: x\r\n\r\n", "only CONNECT", http.StatusMethodNotAllowed},
		"bare line feed":    {"CONNECT orders.shop.mesh:80 HTTP/1.1\nHost: x\r\n\r\n", "bare line feed", http.StatusBadRequest},
		"no port":           {"CONNECT orders.shop.mesh HTTP/1.1\r\n\r\n", "service.namespace.mesh:port", http.StatusBadRequest},
		"not a mesh name":   {"CONNECT example.com:443 HTTP/1.1\r\n\r\n", "not a mesh name", http.StatusBadRequest},
		"content":           {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "no content", http.StatusBadRequest},
		"chunked content":   {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "no content", http.StatusBadRequest},
		"exclude":           {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nIsthmus-Exclude: East\r\n\r\n", "lower-case", http.StatusBadRequest},
		"exclude instance":  {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nIsthmus-Exclude: east/\r\n\r\n", "cluster/instance", http.StatusBadRequest},
		"too many excludes": {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nIsthmus-Exclude: " + strings.Repeat("east,", maxExcludes+1) + "\r\n\r\n", "more than 64", http.StatusBadRequest},
		"via":               {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nVia: east\r\n\r\n", "protocol and name", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, refusal := parseConnect([]byte(c.head))
			if refusal == nil || refusal.Status != c.status || !strings.Contains(refusal.Details, c.want) {
				t.Fatalf("got %v, want %d …%s…", refusal, c.status, c.want)
			}
		})
	}
}

func TestAHeadHasABound(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("CONNECT orders.shop.mesh:80 HTTP/1.1\r\n"), iotest.OneByteReader(zeros{}))
	if _, _, err := readHead(endless, nil); !errors.Is(err, errHeadSize) {
		t.Fatalf("got %v, want %v", err, errHeadSize)
	}
	if _, _, err := readHead(strings.NewReader("CONNECT orders"), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return copy(b, bytes.Repeat([]byte("a"), len(b))), nil }

func TestARefusalCrossesTheWireWithItsReason(t *testing.T) {
	sent := Refuse(http.StatusServiceUnavailable, ErrDestinationUnavailable, `no "ready" endpoint \ for shop/orders`+"\r\nX: y")
	_, _, got := parseReply(sent.http("isthmus-west-1"), mesh.GatewayID{Cluster: "west", Name: "west-1"})
	if got == nil {
		t.Fatal("read as success")
	}
	want := `no "ready" endpoint \ for shop/orders??X: y`
	if got.Status != sent.Status || got.Type != sent.Type || got.Details != want {
		t.Fatalf("got %+v", got)
	}
	// Passed on, the far gateway's member comes first and ours last.
	value := got.proxyStatus("isthmus-east-1")
	if !strings.HasPrefix(value, "isthmus-west-1; error=destination_unavailable; ") || !strings.Contains(value, ", isthmus-east-1; error=") {
		t.Fatalf("Proxy-Status: %s", value)
	}
	if kind, details := readProxyStatus(value); kind != sent.Type || details != want {
		t.Fatalf("the last member reads %q, %q", kind, details)
	}
}

func TestAGatewayOfAnotherVersionIsUnderstood(t *testing.T) {
	from := mesh.GatewayID{Cluster: "west", Name: "west-1"}
	for reply, want := range map[string]int{
		"HTTP/1.1 503 Busy\r\n\r\n":                 503,
		"HTTP/1.1 101 Odd\r\n\r\n":                  502,
		"HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n": 502,
		"HTTP/1.1 404 Not Found\r\nProxy-Status: x; error=\"quoted\"; details=a\r\n\r\n": 404,
		"garbage\r\n\r\n": 502,
	} {
		_, _, refusal := parseReply([]byte(reply), from)
		if refusal == nil || refusal.Status != want || refusal.Type == "" || refusal.Details == "" {
			t.Errorf("%q gives %+v, want status %d with a type and a reason", reply, refusal, want)
		}
	}
	cluster, instance, refusal := parseReply([]byte("HTTP/1.1 200 OK\r\nIsthmus-Cluster: WEST!\r\n\r\n"), from)
	if cluster != "west" || instance != "" || refusal != nil {
		t.Errorf("got %q, %q, %v; want the gateway's own cluster", cluster, instance, refusal)
	}
}

func FuzzReply(f *testing.F) {
	f.Add(Refuse(503, ErrDestinationUnavailable, `no "ready" endpoint`).http("isthmus-west-1"))
	f.Add(formatOpened("west", "orders-1"))
	f.Add([]byte("HTTP/1.1 503 x\r\nProxy-Status: a;error=b;details=\"\\\\\\\"\", c; error=d\r\n\r\n"))
	f.Add([]byte("HTTP/" + strings.Repeat("\x17", 2*maxDetails) + "0.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, instance, refusal := parseReply(b, mesh.GatewayID{Cluster: "west", Name: "west-1"})
		if refusal == nil {
			if instance != "" && !validInstance(instance) {
				t.Fatalf("instance %q would be written into a header", instance)
			}
			return
		}
		again := refusal.http("isthmus-east-1")
		head, _, err := readHead(bytes.NewReader(again), nil)
		if err != nil {
			t.Fatalf("what is passed on is no head: %v", err)
		}
		if bytes.Count(head, []byte("\n")) != 6 {
			t.Fatalf("what is passed on has other lines than ours:\n%s", head)
		}
		if refusal.Status < 400 || refusal.Status > 599 || len(refusal.Details) > maxDetails {
			t.Fatalf("refusal %+v", refusal)
		}
	})
}

func FuzzConnect(f *testing.F) {
	dest := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	f.Add(formatConnect(dest, []Exclusion{{Cluster: "east"}, {"west", "orders-2"}}, []string{"east.east-1"}))
	f.Add([]byte("CONNECT orders.shop.mesh:80 HTTP/1.0\r\nisthmus-exclude: ,,a\r\nvia: 1.1 a (c), 1.0 b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, refusal := parseConnect(b)
		if refusal != nil {
			return
		}
		// What is passed on reads the same.
		again, refusal := parseConnect(formatConnect(c.Destination, c.Exclude, c.via))
		if refusal != nil {
			t.Fatalf("%+v is passed on as what is refused: %v", c, refusal)
		}
		if again.Destination != c.Destination || !slices.Equal(again.Exclude, c.Exclude) || !slices.Equal(again.via, c.via) {
			t.Fatalf("%+v is passed on as %+v", c, again)
		}
	})
}
