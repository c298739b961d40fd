package connect

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
	exclude := []Instance{{Cluster: "east"}, {Cluster: "west", Name: "orders-2"}}
	via := []string{"east.east-1"}
	wire := append((&Request{Destination: dest, Exclude: exclude, Held: exclude[1:], Via: via, Goodbyes: true}).Append(nil), "\x16\x03\x01"...)

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
	c, refusal := parseRequest(head)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if c.Destination != dest || !slices.Equal(c.Exclude, exclude) || !slices.Equal(c.Held, exclude[1:]) || !c.Goodbyes || !slices.Equal(c.Via, via) {
		t.Fatalf("read %+v", c)
	}
	if !c.ExcludesCluster("east") || c.ExcludesCluster("west") ||
		!c.ExcludesInstance(Instance{"east", "any"}) || !c.ExcludesInstance(Instance{"west", "orders-2"}) || c.ExcludesInstance(Instance{"west", "orders-1"}) {
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
		"too many excludes": {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nIsthmus-Exclude: " + strings.Repeat("east,", maxInstances+1) + "\r\n\r\n", "more than 64", http.StatusBadRequest},
		"held":              {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nIsthmus-Held: west/\r\n\r\n", "Isthmus-Held", http.StatusBadRequest},
		"via":               {"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nVia: east\r\n\r\n", "protocol and name", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, refusal := parseRequest([]byte(c.head))
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
	sent := Refuse(http.StatusServiceUnavailable, DestinationUnavailable, `no "ready" endpoint \ for shop/orders`+"\r\nX: y")
	_, _, err := ReadReply(bytes.NewReader(sent.Append(nil, "isthmus-west-1")), nil)
	var got *Refusal
	if !errors.As(err, &got) {
		t.Fatalf("read as %v", err)
	}
	want := `no "ready" endpoint \ for shop/orders??X: y`
	if got.Status != sent.Status || got.Type != sent.Type || got.Details != want || got.Proxy != "isthmus-west-1" {
		t.Fatalf("got %+v", got)
	}
	// Passed on, the far gateway's member comes first and ours last.
	value := got.ProxyStatus("isthmus-east-1")
	if !strings.HasPrefix(value, "isthmus-west-1; error=destination_unavailable; ") || !strings.Contains(value, ", isthmus-east-1; error=") {
		t.Fatalf("Proxy-Status: %s", value)
	}
	if proxy, kind, details := parseProxyStatus(value); proxy != "isthmus-west-1" || kind != sent.Type || details != want {
		t.Fatalf("the member of the gateway that refused reads %q, %q, %q", proxy, kind, details)
	}
}

func TestAGatewayOfAnotherVersionIsUnderstood(t *testing.T) {
	for reply, want := range map[string]int{
		"HTTP/1.1 503 Busy\r\n\r\n":                 503,
		"HTTP/1.1 101 Odd\r\n\r\n":                  502,
		"HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n": 502,
		"HTTP/1.1 404 Not Found\r\nProxy-Status: x; error=\"quoted\"; details=a\r\n\r\n":  404,
		"HTTP/1.1 404 Not Found\r\nProxy-Status: x; error=\"a, b; c\"; details=a\r\n\r\n": 404,
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nProxy-Status: x\r\n\r\n":  403,
	} {
		_, _, err := ReadReply(strings.NewReader(reply), nil)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Status != want || !validType(refusal.Type) || refusal.Details == "" {
			t.Errorf("%q gives %v, want status %d with a type and a reason", reply, err, want)
		}
	}
}

func TestWhatANewerProcessSaysBesideIsNoObstacle(t *testing.T) {
	req, payload, err := ReadRequest(strings.NewReader("CONNECT orders.shop.mesh:80 HTTP/1.1\r\nHost: orders.shop.mesh:80\r\nIsthmus-Zone: a;b=c\r\n"+
		"Isthmus-Exclude: west/orders-1;why=slow\r\nCapsule-Protocol: ?1\r\nPriority: u=1\r\nVia: 1.1 east.east-1 (later), 3 x\r\n\r\n\x16\x03\x01"), nil)
	if err != nil || len(req.Exclude) != 1 || len(req.Via) != 2 || string(payload) != "\x16\x03\x01" {
		t.Errorf("%+v, %q, %v", req, payload, err)
	}
	who, payload, err := ReadReply(strings.NewReader("HTTP/1.1 104 Later\r\nX: y\r\n\r\nHTTP/1.1 299 Fine\r\nIsthmus-Cluster: west\r\nIsthmus-Zone: a\r\n"+
		"Capsule-Protocol: ?1\r\n\r\n\x16"), nil)
	if err != nil || who.Cluster != "west" || string(payload) != "\x16" {
		t.Errorf("%+v, %q, %v", who, payload, err)
	}
	_, _, err = ReadReply(strings.NewReader("HTTP/1.1 599 Later\r\nProxy-Status: x; error=a_type_of_tomorrow; details=\"d\"; later=?1\r\n\r\n"), nil)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Status != 599 || refusal.Type != "a_type_of_tomorrow" || refusal.Details != "d" {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoReplyIsNoRefusal(t *testing.T) {
	for name, reply := range map[string]string{
		"garbage":       "garbage\r\n\r\n",
		"endless head":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead),
		"endless hints": strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxInterim+1) + "HTTP/1.1 200 OK\r\n\r\n",
	} {
		if _, _, err := ReadReply(strings.NewReader(reply), nil); !errors.Is(err, ErrReply) {
			t.Errorf("%s: %v, want %v", name, err, ErrReply)
		}
	}
	if _, _, err := ReadReply(strings.NewReader("HTTP/1.1 200"), nil); err == nil || errors.Is(err, ErrReply) {
		t.Errorf("a connection that ends within the reply gives %v", err)
	}
}

func TestAReplyIsReadAsItWasWritten(t *testing.T) {
	want := Opened{Instance{"west", "orders-1"}, 3}
	wire := "HTTP/1.1 103 Early Hints\r\n\r\n" + string(AppendOpened(nil, want)) + "\x16\x03\x03"
	who, payload, err := ReadReply(strings.NewReader(wire), make([]byte, 0, 16))
	if err != nil || who != want || string(payload) != "\x16\x03\x03" {
		t.Errorf("read %v with payload %q, %v", who, payload, err)
	}
}

func TestANameThatCannotBeAHeaderIsNotKept(t *testing.T) {
	for _, name := range []string{"", "a,b", "a b", "a\x00", "ü", strings.Repeat("x", maxName+1)} {
		who, _, err := ReadReply(strings.NewReader("HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: "+name+"\r\n\r\n"), nil)
		if err == nil && who.Name != "" {
			t.Errorf("instance %q is kept as %s", name, who)
		}
	}
	for _, cluster := range []string{"We st", "WEST!"} {
		who, _, err := ReadReply(strings.NewReader("HTTP/1.1 200 OK\r\nIsthmus-Cluster: "+cluster+"\r\n\r\n"), nil)
		if err != nil || who != (Opened{}) {
			t.Errorf("the bad cluster %q is kept as %s, %v", cluster, who, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(Refuse(503, DestinationUnavailable, `no "ready" endpoint`).Append(nil, "isthmus-west-1"))
	f.Add(AppendOpened(nil, Opened{Instance{"west", "orders-1"}, 3}))
	f.Add([]byte("HTTP/1.1 503 x\r\nProxy-Status: a;error=b;details=\"\\\\\\\"\", c; error=d\r\n\r\n"))
	f.Add([]byte("HTTP/" + strings.Repeat("\x17", 2*maxDetails) + "0.0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nIsthmus-Cluster: a\r\nIsthmus-Instance: b,c\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		who, payload, err := ReadReply(bytes.NewReader(b), nil)
		var refusal *Refusal
		switch {
		case err == nil:
			if who.Name != "" && !validName(who.Name) || who.Cluster != "" && mesh.CheckLabel(string(who.Cluster)) != nil {
				t.Fatalf("%q would be written into a header", who)
			}
			if !bytes.HasSuffix(b, payload) && len(b) <= readSize {
				t.Fatalf("payload %q is not what came last", payload)
			}
			return
		case who != (Opened{}) || payload != nil:
			t.Fatalf("%v of %v, with payload %q", err, who, payload)
		case !errors.As(err, &refusal):
			return
		}
		head, _, err := readHead(bytes.NewReader(refusal.Append(nil, "isthmus-east-1")), nil)
		if err != nil {
			t.Fatalf("what is passed on is no head: %v", err)
		}
		if bytes.Count(head, []byte("\n")) != 7 {
			t.Fatalf("what is passed on has other lines than ours:\n%s", head)
		}
		if refusal.Status < 400 || refusal.Status > 599 || len(refusal.Details) > maxDetails || !validType(refusal.Type) {
			t.Fatalf("refusal %+v", refusal)
		}
	})
}

func FuzzRequest(f *testing.F) {
	dest := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	f.Add((&Request{Destination: dest, Exclude: []Instance{{Cluster: "east"}, {"west", "orders-2"}}, Via: []string{"east.east-1"}, Goodbyes: true}).Append(nil))
	f.Add([]byte("CONNECT orders.shop.mesh:80 HTTP/1.0\r\nisthmus-exclude: ,,a\r\nvia: 1.1 a (c), 1.0 b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, refusal := parseRequest(b)
		if refusal != nil {
			return
		}
		// What is passed on reads the same.
		again, refusal := parseRequest(c.Append(nil))
		if refusal != nil {
			t.Fatalf("%+v is passed on as what is refused: %v", c, refusal)
		}
		if again.Destination != c.Destination || !slices.Equal(again.Exclude, c.Exclude) || !slices.Equal(again.Via, c.Via) {
			t.Fatalf("%+v is passed on as %+v", c, again)
		}
	})
}
