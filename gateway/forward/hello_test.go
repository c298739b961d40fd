package forward

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// clientHello returns what crypto/tls sends first.
func clientHello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, cfg).Handshake() // fails: nobody answers
		_ = client.Close()
	}()
	defer server.Close()
	b := make([]byte, maxHello)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// inRecords cuts the message of a one-record ClientHello into records of n bytes.
func inRecords(hello []byte, n int) []byte {
	var b []byte
	for msg := hello[recordHeader:]; len(msg) > 0; {
		k := min(n, len(msg))
		b = append(b, recordHandshake, 3, 1, byte(k>>8), byte(k))
		b = append(b, msg[:k]...)
		msg = msg[k:]
	}
	return b
}

func TestTheServerNameIsReadHoweverTheClientHelloIsCut(t *testing.T) {
	const name = "orders.shop.mesh"
	for _, cfg := range []*tls.Config{
		{ServerName: name},
		{ServerName: name, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13},
		{ServerName: name, MaxVersion: tls.VersionTLS12},
	} {
		hello := clientHello(t, cfg)
		for _, b := range [][]byte{hello, inRecords(hello, 300), inRecords(hello, (len(hello)+maxHelloRecords-1)/maxHelloRecords)} {
			for i := range b {
				if got, done, err := helloServerName(b[:i]); done || err != nil {
					t.Fatalf("%d of %d bytes give %q, %v, %v; want to be asked for more", i, len(b), got, done, err)
				}
			}
			// What follows belongs to the payload and is not looked at.
			for _, b := range [][]byte{b, append(bytes.Clone(b), "early data"...)} {
				if got, done, err := helloServerName(b); got != name || !done || err != nil {
					t.Fatalf("got %q, %v, %v", got, done, err)
				}
			}
		}
	}
}

func TestWhatIsNoClientHelloIsRefusedAtItsFirstWrongByte(t *testing.T) {
	hello := clientHello(t, &tls.Config{ServerName: "orders.shop.mesh"})
	with := func(at int, b byte) []byte {
		c := bytes.Clone(hello)
		c[at] = b
		return c
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"HTTP":                  {[]byte("GET / HTTP/1.1\r\n"), errNotTLS},
		"HTTP's first byte":     {[]byte("G"), errNotTLS},
		"an alert":              {with(0, recordAlert), errNotTLS},
		"another version":       {with(1, 2), errNotTLS},
		"an empty record":       {[]byte{recordHandshake, 3, 1, 0, 0}, errNotTLS},
		"a record of 16385":     {[]byte{recordHandshake, 3, 1, 0x40, 1}, errNotTLS},
		"a ServerHello":         {with(5, 2), errNotTLS},
		"a message of 16 MiB":   {with(6, 0xff), errHelloSize},
		"too many records":      {inRecords(hello, len(hello)/(maxHelloRecords+1)), errHelloForm},
		"no server name":        {clientHello(t, &tls.Config{InsecureSkipVerify: true}), errNoSNI}, // never connects
		"a session ID too long": {with(5+4+34, 33), errHelloForm},
	} {
		t.Run(name, func(t *testing.T) {
			if got, done, err := helloServerName(c.b); done || !errors.Is(err, c.want) {
				t.Fatalf("got %q, %v, %v; want %v", got, done, err, c.want)
			}
		})
	}
}

var errSeen = errors.New("seen")

// byCryptoTLS returns the server name that crypto/tls reads, and whether it
// could read a ClientHello at all.
func byCryptoTLS(b []byte) (name string, ok bool) {
	conn := tls.Server(input{bytes.NewReader(b)}, &tls.Config{
		MinVersion: tls.VersionTLS10,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = h.ServerName, true
			return nil, errSeen
		},
	})
	_ = conn.Handshake()
	return name, ok
}

// input is a connection that gives bytes and takes all.
type input struct{ r io.Reader }

func (i input) Read(b []byte) (int, error)       { return i.r.Read(b) }
func (input) Write(b []byte) (int, error)        { return len(b), nil }
func (input) Close() error                       { return nil }
func (input) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (input) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (input) SetDeadline(t time.Time) error      { return nil }
func (input) SetReadDeadline(t time.Time) error  { return nil }
func (input) SetWriteDeadline(t time.Time) error { return nil }

// FuzzServerName compares with crypto/tls: where both read a ClientHello they
// read the same name, and what crypto/tls reads from one whole record with a
// name, we read.
func FuzzServerName(f *testing.F) {
	for _, cfg := range []*tls.Config{
		{ServerName: "orders.shop.mesh"},
		{ServerName: "orders.shop.west.mesh", NextProtos: []string{"h2", "http/1.1"}},
		{ServerName: "a.b.mesh", MaxVersion: tls.VersionTLS12},
		{InsecureSkipVerify: true}, // no name; never connects
	} {
		hello := clientHello(f, cfg)
		f.Add(hello)
		f.Add(inRecords(hello, 200))
		f.Add(hello[:len(hello)/2])
	}
	f.Add([]byte("CONNECT orders.shop.mesh:80 HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, done, err := helloServerName(b)
		theirs, ok := byCryptoTLS(b)
		switch {
		case done && err != nil:
			t.Fatal("done and an error")
		case done && ok && name != theirs:
			t.Fatalf("we read %q, crypto/tls %q", name, theirs)
		case !done && ok && theirs != "" && !errors.Is(err, errHelloForm) && !errors.Is(err, errHelloSize) && !errors.Is(err, errNotTLS):
			t.Fatalf("crypto/tls reads %q, we give %v", theirs, err)
		}
		// What was asked for more of may not have been refusable, and the other way round.
		for i := 0; i < len(b); i += max(len(b)/16, 1) {
			if _, early, e := helloServerName(b[:i]); (early && !done) || (e != nil && err == nil) {
				t.Fatalf("%d bytes give %v, %v; all %d give %v, %v", i, early, e, len(b), done, err)
			}
		}
	})
}

func TestAPathsPayloadIsToldBySixBytes(t *testing.T) {
	hello := clientHello(t, &tls.Config{ServerName: "orders.shop.mesh"})
	for i := range 6 {
		if ok, err := beginsHello(hello[:i]); ok || err != nil {
			t.Fatalf("%d bytes: %v, %v", i, ok, err)
		}
	}
	if ok, err := beginsHello(hello[:6]); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := beginsHello([]byte(strings.Repeat("A", 6))); !errors.Is(err, errNotTLS) {
		t.Fatal(err)
	}
}
