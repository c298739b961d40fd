package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// opensByHTTP2 is a client of Node.js that opens a WebSocket by extended CONNECT (RFC 8441)
// at argv[2], sends words, and prints what comes back until its end.
const opensByHTTP2 = `
const http2 = require('http2');
const session = http2.connect('http://' + process.argv[2]);
const fail = err => { console.error(err); process.exit(1); };
session.on('error', fail);
session.on('remoteSettings', settings => {
	if (!settings.enableConnectProtocol) fail('no extended CONNECT is offered');
	const stream = session.request({':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http', ':authority': 'ws.shop.mesh', ':path': '/chat', 'sec-websocket-version': '13'}, {endStream: false});
	stream.on('error', fail);
	stream.on('response', head => {
		if (head[':status'] !== 200) fail('status ' + head[':status']);
		stream.write('hello ');
		stream.end('world');
	});
	stream.setEncoding('utf8');
	stream.on('data', text => process.stdout.write(text));
	stream.on('end', () => session.close());
});
`

// servesByHTTP2 is a program of Node.js that takes WebSockets by extended CONNECT at the
// address argv[2], and echoes.
const servesByHTTP2 = `
const http2 = require('http2');
const [host, port] = process.argv[2].split(':');
const server = http2.createServer({settings: {enableConnectProtocol: true}});
server.on('stream', (stream, head) => {
	stream.on('error', () => {});
	if (head[':method'] !== 'CONNECT' || head[':protocol'] !== 'websocket') {
		stream.respond({':status': 200}, {endStream: true});
		return;
	}
	stream.respond({':status': 200});
	stream.pipe(stream);
});
server.listen(port, host);
`

// switches is a program that switches to another protocol by HTTP/1.1, and echoes.
func switches(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.URL.Path != "/chat" {
			http.Error(w, "no WebSocket", http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestARealClientOfHTTP2OpensAWebSocketOfAProgramThatSpeaksHTTP1(t *testing.T) {
	harness.Tool(t, "node")
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.sidecar("east", "ws-1", "shop/ws", "http", switches(t), "")
	script := m.write("client.js", opensByHTTP2)
	for _, cluster := range []string{"east", "west"} { // in the cluster, and through both gateways
		caller := m.sidecar(cluster, "caller-"+cluster, "shop/caller-"+cluster, "", "", "shop/ws")
		m.settled(map[string]uint32{"east shop/ws": 1})
		m.eventually(func() error {
			out, err := exec.CommandContext(t.Context(), "node", script, caller.listener).CombinedOutput()
			if err != nil || string(out) != "hello world" {
				return fmt.Errorf("%s: %q, %w", cluster, out, err)
			}
			return nil
		})
	}
}

func TestAClientOfHTTP1OpensAWebSocketOfAProgramThatSpeaksHTTP2(t *testing.T) {
	harness.Tool(t, "node")
	m := newMesh(t, "east")
	m.gateway("east", "east-1")
	at := freePorts(t, 1)[0]
	script := m.write("server.js", servesByHTTP2)
	m.sidecar("east", "ws-1", "shop/ws", "http2", at, "", "node", script, at)
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/ws")
	m.settled(map[string]uint32{"east shop/ws": 1})
	m.eventually(func() error {
		conn, err := net.DialTimeout("tcp", caller.listener, limit)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(limit))
		fmt.Fprint(conn, "GET /chat HTTP/1.1\r\nHost: ws.shop.mesh\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			return fmt.Errorf("%s %v", resp.Status, resp.Header)
		}
		fmt.Fprint(conn, "hello world")
		_ = conn.(*net.TCPConn).CloseWrite()
		back, err := io.ReadAll(br)
		if strings.TrimSpace(string(back)) != "hello world" {
			return fmt.Errorf("%q came back, %w", back, err)
		}
		return nil
	})
}
