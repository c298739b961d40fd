package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// proveHop checks that the second of two proxies speaks what this flow is about: mutual
// TLS and nothing in plain, and HTTP/2 where it should.
func (b *bench) proveHop(ctx context.Context, c *contender) error {
	if c.hop.address == "" {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(b.pki.caller, "cert.pem"), filepath.Join(b.pki.caller, "key.pem"))
	if err != nil {
		return err
	}
	conn, err := b.handshake(ctx, c.hop, certificate)
	if err != nil {
		return fmt.Errorf("handshake with its server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if got := conn.ConnectionState().NegotiatedProtocol == "h2"; c.hop.http2 && !got {
		return errors.New("its server does not agree to HTTP/2")
	}
	anonymous, err := b.handshake(ctx, c.hop)
	if err != nil {
		return nil // refused, as it should be
	}
	defer func() { _ = anonymous.Close() }()
	if _, err := anonymous.Write([]byte("GET / HTTP/1.1\r\nHost: " + orders.Host() + "\r\n\r\n")); err != nil {
		return nil
	}
	// With TLS 1.3 the refusal is the answer to what the client said last.
	if answer, err := bufio.NewReader(anonymous).ReadString('\n'); err == nil && strings.Contains(answer, " 200 ") {
		return fmt.Errorf("its server answers a caller without a certificate: %q", answer)
	}
	return nil
}

// handshake connects to the second proxy as the first does.
func (b *bench) handshake(ctx context.Context, hop hopWire, certificates ...tls.Certificate) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		Certificates: certificates, ServerName: orders.Host(), MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		InsecureSkipVerify: true, //nolint:gosec // whether the server is asked for, not who it is
	}}
	if !hop.http2 {
		d.Config.NextProtos = nil
	}
	c, err := d.DialContext(ctx, "tcp4", hop.address)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(pollTimeout))
	return c.(*tls.Conn), nil
}

// connectionsTo returns how many connections to an address of this machine there are: none
// when there is no address.
func connectionsTo(address string) int {
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return 0
	}
	b, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		return 0
	}
	const established = "01"
	port, n := fmt.Sprintf(":%04X", a.Port), 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // sl local_address rem_address st …
		if len(f) > 3 && strings.HasSuffix(f[2], port) && f[3] == established {
			n++
		}
	}
	return n
}
