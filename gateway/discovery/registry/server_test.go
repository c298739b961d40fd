package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

func caller() identity.ID {
	return identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "shop", ServiceAccount: "orders"}
}

var callerAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40000}

func message() *register.Registration {
	return &register.Registration{Service: "shop/orders", Port: 80, Protocol: "http", Instance: "orders-1", Address: ":15008", Ready: true}
}

func TestTheEndpointIsTheCallersAndNotWhatItWrites(t *testing.T) {
	k, e, err := parse(message(), caller(), callerAddr)
	if err != nil {
		t.Fatal(err)
	}
	if want := (key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, "orders-1"}); k != want {
		t.Errorf("key %+v, want %+v", k, want)
	}
	if want := (mesh.Endpoint{
		Instance: "orders-1", Address: "10.0.0.7:15008", Ready: true, Weight: 1,
		Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/orders",
	}); e.endpoint != want || !e.exported {
		t.Errorf("endpoint %+v exported %t, want %+v", e.endpoint, e.exported, want)
	}
}

func TestARegistrationThatIsWrongSaysWhatToWrite(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*register.Registration)
		code   codes.Code
		says   string
	}{
		"no service":    {func(r *register.Registration) { r.Service = "orders" }, codes.InvalidArgument, "namespace/name"},
		"port 0":        {func(r *register.Registration) { r.Port = 0 }, codes.InvalidArgument, "1 to 65535"},
		"port too high": {func(r *register.Registration) { r.Port = 65536 }, codes.InvalidArgument, "1 to 65535"},
		"protocol":      {func(r *register.Registration) { r.Protocol = "HTTP/2 please" }, codes.InvalidArgument, "protocol"},
		"no instance":   {func(r *register.Registration) { r.Instance = "" }, codes.InvalidArgument, "instance"},
		"long instance": {func(r *register.Registration) { r.Instance = strings.Repeat("a", 254) }, codes.InvalidArgument, "1 to 253"},
		"header in it":  {func(r *register.Registration) { r.Instance = "a\r\nb: c" }, codes.InvalidArgument, "letters"},
		"no port":       {func(r *register.Registration) { r.Address = "10.0.0.1" }, codes.InvalidArgument, "host:port"},
		"address port":  {func(r *register.Registration) { r.Address = ":99999" }, codes.InvalidArgument, "1 to 65535"},
		"unspecified":   {func(r *register.Registration) { r.Address = "[::]:15008" }, codes.InvalidArgument, "nobody can dial"},
		"weight":        {func(r *register.Registration) { r.Weight = mesh.MaxWeight + 1 }, codes.InvalidArgument, "at most"},
	} {
		m := message()
		c.change(m)
		_, _, err := parse(m, caller(), callerAddr)
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s with %q", name, err, c.code, c.says)
		}
	}
}

func TestWhatASidecarWritesIsQuotedInItsRefusal(t *testing.T) {
	const escape = "\x1b[31m\n"
	for _, spoil := range []func(*register.Registration){
		func(r *register.Registration) { r.Service = escape },
		func(r *register.Registration) { r.Service = "shop/" + escape },
		func(r *register.Registration) { r.Protocol = escape },
		func(r *register.Registration) { r.Instance = escape },
		func(r *register.Registration) { r.Address = escape },
		func(r *register.Registration) { r.Address = escape + ":http" },
	} {
		m := message()
		spoil(m)
		_, _, err := parse(m, caller(), callerAddr)
		if err == nil || strings.ContainsAny(err.Error(), escape[:1]+"\n") {
			t.Errorf("%v of %v", err, m)
		}
	}
}

func TestARegistrationOfANewerSidecarIsTaken(t *testing.T) {
	m := message()
	m.Protocol = "quic"
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	b = append(protowire.AppendTag(b, 99, protowire.BytesType), 2, 'o', 'k') // a field of tomorrow
	m = new(register.Registration)
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	if _, e, err := parse(m, caller(), callerAddr); err != nil || e.protocol != mesh.TCP {
		t.Errorf("%+v, %v: want opaque bytes", e, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("shop/orders", uint32(80), "http", "orders-1", ":15008", uint32(1))
	f.Add("shop/orders", uint32(80), "tcp", "orders-1", "[::1]:15008", uint32(0))
	f.Add("/", uint32(0), "", "", "", uint32(0))
	f.Fuzz(func(t *testing.T, service string, port uint32, protocol, instance, address string, weight uint32) {
		k, e, err := parse(&register.Registration{Service: service, Port: port, Protocol: protocol, Instance: instance, Address: address, Weight: weight}, caller(), callerAddr)
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(e.endpoint.Address); err != nil || e.endpoint.Weight == 0 {
			t.Fatalf("accepted %+v %+v", k, e)
		}
	})
}

func TestRegistrationsBecomeSortedServices(t *testing.T) {
	s := server(t, Config{Log: slog.New(slog.DiscardHandler)})
	st := newStream(caller(), callerAddr, s.log)
	put := func(service string, port uint32, instance string, unexported bool) {
		t.Helper()
		m := message()
		m.Service, m.Port, m.Instance, m.Unexported = service, port, instance, unexported
		k, e, err := parse(m, caller(), callerAddr)
		if err != nil {
			t.Fatal(err)
		}
		e.stream = st
		if _, err := s.put(k, e); err != nil {
			t.Fatal(err)
		}
	}
	empty, past := s.Snapshot()
	if empty == nil || len(empty) != 0 {
		t.Fatalf("nothing registered is %#v, want an empty set that is known", empty)
	}
	put("shop/orders", 81, "b", false)
	select {
	case <-past:
	default:
		t.Error("a registration does not make the snapshot past")
	}
	put("shop/orders", 80, "b", true)
	put("shop/orders", 80, "a", false)
	services, past := s.Snapshot()
	var got []string
	for _, svc := range services {
		for _, p := range svc.Ports {
			for _, e := range p.Endpoints {
				got = append(got, fmt.Sprintf("%s:%d %s exported %t", svc.Name, p.Port, e.Instance, p.Exported))
			}
		}
	}
	want := []string{"shop/orders:80 a exported false", "shop/orders:80 b exported false", "shop/orders:81 b exported true"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("services %v, want %v: a port is exported when all of its registrations say so", got, want)
	}
	put("shop/orders", 80, "b", true) // says the same again
	select {
	case <-past:
		t.Error("what says the same again makes the snapshot past")
	default:
	}
}

func TestAfterARestartTheSetIsUnknownUntilEverybodyIsBackOrTheTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "registrations.json")
		if err := os.WriteFile(path, []byte(`{"version":1,"known":[{"service":"shop/orders","port":80,"instance":"orders-1"}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		s := server(t, Config{StatePath: path, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = s.Run(ctx) })
		defer run.Wait()
		defer cancel()
		began := time.Now()
		services, past := s.Snapshot()
		if services != nil {
			t.Fatalf("known at once: %+v", services)
		}
		<-past
		if services, _ := s.Snapshot(); services == nil || time.Since(began) != awaitFor {
			t.Errorf("after %s the set is %#v", time.Since(began), services)
		}
	})
}

func TestARenewalOfTheCertificateIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Config{Log: slog.New(slog.DiscardHandler)})
		k, e, err := parse(message(), caller(), callerAddr)
		if err != nil {
			t.Fatal(err)
		}
		holds := func() bool { set, _ := s.Snapshot(); return len(set) == 1 }
		expired := tls.ConnectionState{PeerCertificates: []*x509.Certificate{{NotAfter: time.Now().Add(-time.Second)}}}
		valid := tls.ConnectionState{PeerCertificates: []*x509.Certificate{{NotAfter: time.Now().Add(time.Hour)}}}
		register := func() *stream {
			e.stream = newStream(caller(), callerAddr, s.log)
			if _, err := s.put(k, e); err != nil {
				t.Fatal(err)
			}
			return e.stream
		}
		first := register()
		s.ended(k, first, io.ErrUnexpectedEOF, expired)
		second := register()
		time.Sleep(2 * renewalTime)
		if !holds() {
			t.Error("the registration under the new certificate went with that under the old one")
		}
		s.ended(k, second, io.ErrUnexpectedEOF, expired)
		time.Sleep(2 * renewalTime)
		if holds() {
			t.Error("a sidecar that does not come back stays")
		}
		s.ended(k, register(), io.ErrUnexpectedEOF, valid)
		if holds() {
			t.Error("a sidecar that dies stays")
		}
	})
}

func TestTheRefusalOfASidecarThatTriesOnIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := server(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		refuse := func(instance, why string) {
			s.refused(newStream(caller(), callerAddr, s.log), &register.Registration{Service: "shop/orders", Instance: instance}, errors.New(why))
		}
		lines := func() int { return strings.Count(log.String(), "registration refused") }
		for range 100 {
			refuse("a", "taken")
			refuse("b", "taken")
			time.Sleep(time.Second)
		}
		if got := lines(); got != 2 {
			t.Errorf("two sidecars that try for 100 s are %d lines", got)
		}
		refuse("a", "too many")
		if got := lines(); got != 3 {
			t.Errorf("another reason is no line: %d", got)
		}
		time.Sleep(refusalInterval)
		refuse("a", "too many")
		if got := lines(); got != 4 {
			t.Errorf("after a while it is not said again: %d", got)
		}
		for i := range 10 * maxRefusals {
			refuse(strconv.Itoa(i), "taken")
		}
		if n := len(s.refusals); n > maxRefusals {
			t.Errorf("%d refusals are remembered", n)
		}
	})
}

func TestABrokenStateFileIsNoReasonToWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registrations.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := server(t, Config{StatePath: path, Log: slog.New(slog.DiscardHandler)})
	_, past := s.Snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = s.Run(ctx) })
	defer run.Wait() // it writes the file as it ends
	defer cancel()
	<-past
	if services, _ := s.Snapshot(); services == nil {
		t.Error("still unknown")
	}
}

// server returns a server without metrics.
func server(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
