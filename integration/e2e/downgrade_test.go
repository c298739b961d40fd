package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attack is a request of HTTP/2 that one hop might read as another request, or as two, once it is
// written in HTTP/1.1.
type attack struct {
	name     string
	fields   []hpack.HeaderField
	data     string
	trailers []hpack.HeaderField
}

// marker is a field of every attack: who sees it has been forwarded one.
const marker = "x-attack"

func fieldsOf(nameValues ...string) (fields []hpack.HeaderField) {
	for pair := range slices.Chunk(nameValues, 2) {
		fields = append(fields, hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	return fields
}

// good are the fields of a request that is no attack.
func good() []hpack.HeaderField {
	return fieldsOf(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "orders.shop.mesh", marker, "1")
}

// attacks are every class of downgrade attack that is known, with smuggled being what they would have an
// origin read.
func attacks() []attack {
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: orders.shop.mesh\r\nX-Attack: smuggled\r\n\r\n"
	f := fieldsOf
	with := func(nameValues ...string) []hpack.HeaderField { // a good request but for what is added or replaced
		fields := good()
		for _, x := range f(nameValues...) {
			i := slices.IndexFunc(fields, func(f hpack.HeaderField) bool { return f.Name == x.Name && strings.HasPrefix(x.Name, ":") })
			if i >= 0 {
				fields[i] = x
			} else {
				fields = append(fields, x)
			}
		}
		return fields
	}
	var all []attack
	add := func(name, data string, fields []hpack.HeaderField) {
		all = append(all, attack{name: name, data: data, fields: fields})
	}
	field := func(name, value string) { add(fmt.Sprintf("%q: %q", name, value), "", with(name, value)) }

	for _, te := range []string{"chunked", "Chunked", "chunked, identity", "xchunked", "identity", "gzip, chunked"} {
		add("transfer-encoding: "+te, "0\r\n\r\n"+smuggled, with("transfer-encoding", te))
	}
	add("transfer-encoding and content-length", "0\r\n\r\n"+smuggled, with("content-length", "5", "transfer-encoding", "chunked"))
	for _, length := range []string{"0", "3", "10000", "+3", "-1", "0x5", "3,3", "3, 5", "", "5 5", "99999999999999999999", "5\r\nx: y"} {
		add(fmt.Sprintf("content-length %q of 5 bytes", length), "12345", with("content-length", length))
	}
	add("content-length twice", "12345", with("content-length", "5", "content-length", "0"))
	add("content-length without a body", "", with("content-length", "5"))
	add("content-length 0 with a request behind", smuggled, with("content-length", "0"))
	for _, value := range []string{"a\r\nx: y", "a\nx: y", "a\rx: y", "a\r\n\r\n" + smuggled, "a\x00b", " a", "a ", "\ta", "a\t", "a\r\n", "\n"} {
		field("x-value", value)
		field("cookie", value)
	}
	for _, name := range []string{"x-a\r\nx-b", "x-a\nx-b", "x-a: y\r\nx-b", "x-a:", "x-a:y", ":x", "x a", " x", "x ", "x\t", "X-Upper", "x\x00", "x\x7f", "x\xc3\xa9",
		"", "x-a\r\n\r\n" + smuggled, "transfer-encoding ", "transfer_encoding:chunked", "Transfer-Encoding", "content-length\x00", "(x)", "\"x\"", "x/y"} {
		field(name, "chunked")
	}
	for _, path := range []string{"", "x", "/ x", "/\tx", "/ HTTP/1.1\r\nHost: x\r\nx: y", "/\r\n", "/\n", "/\x00", "/#x", "/x#y", "http://elsewhere/", "http://orders.shop.mesh/", "*", "?x",
		"/ HTTP/1.1\r\n\r\n" + smuggled, "/\x7f", "/\xff", "\\x"} {
		field(":path", path)
	}
	for _, method := range []string{"", "GET /x", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET", "GET\r\n", "G ET", "GET\x00", "POST:", "GÉT", "GET\t"} {
		field(":method", method)
	}
	for _, authority := range []string{"", "a b", "a\r\nx: y", "a@orders.shop.mesh", "orders.shop.mesh/x", "orders.shop.mesh?x", "orders.shop.mesh#x", "orders.shop.mesh:80:80", "orders.shop.mesh:x", "a,b", "a\x00", "[::1"} {
		field(":authority", authority)
	}
	for _, scheme := range []string{"", "http://x/", "ht tp", "http\r\nx: y"} {
		field(":scheme", scheme)
	}
	field("host", "elsewhere")
	add("two hosts", "", with("host", "orders.shop.mesh", "host", "elsewhere"))
	add("host without authority, twice", "", f(":method", "GET", ":scheme", "http", ":path", "/", "host", "a", "host", "b", marker, "1"))
	for _, twice := range []string{":method", ":path", ":scheme", ":authority"} {
		add("twice "+twice, "", append(f(twice, "/x"), with()...))
		add("twice "+twice+", behind", "", slices.Insert(with(), 4, f(twice, "GET")...))
	}
	add("a pseudo-header behind a field", "", f(":method", "GET", ":scheme", "http", marker, "1", ":path", "/", ":authority", "orders.shop.mesh"))
	field(":status", "200")
	field(":unknown", "x")
	add(":protocol without CONNECT", "", slices.Insert(with(), 4, f(":protocol", "websocket")...))
	for i, missing := range []string{":method", ":scheme", ":path"} {
		add("without "+missing, "", slices.Delete(with(), i, i+1))
	}
	for _, name := range []string{"connection", "keep-alive", "proxy-connection", "upgrade", "te"} {
		field(name, "x-attack, close")
	}
	for _, trailer := range [][]hpack.HeaderField{f(":path", "/x"), f("X-Upper", "x"), f("x", "a\r\nb: c"), f("x\r\ny", "z"), f("connection", "close"), f("transfer-encoding", "chunked")} {
		all = append(all, attack{name: fmt.Sprintf("trailer %q: %q", trailer[0].Name, trailer[0].Value), fields: with(), data: "12345", trailers: trailer})
	}
	return all
}

// send makes an attack on a connection of its own and returns how it ended. An answer
// of success is an error.
func (a attack) send(address string) (string, error) {
	c, err := net.Dial("tcp4", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return "", err
	}
	block := func(fields []hpack.HeaderField) []byte {
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		for _, f := range fields {
			_ = e.WriteField(f) // into memory
		}
		return b.Bytes()
	}
	var out bytes.Buffer
	w := http2.NewFramer(&out, nil)
	_ = w.WriteSettings()
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(a.fields), EndHeaders: true, EndStream: a.data == ""})
	if a.data != "" {
		_ = w.WriteData(1, a.trailers == nil, []byte(a.data))
	}
	if a.trailers != nil {
		// Its table has what the head put there, which does no harm: nothing here refers to it.
		_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(a.trailers), EndHeaders: true, EndStream: true})
	}
	if _, err := c.Write(out.Bytes()); err != nil {
		return "", err
	}
	r := http2.NewFramer(io.Discard, bufio.NewReader(c))
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := r.ReadFrame()
		var timeout net.Error
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			return "reset: " + f.ErrCode.String(), nil
		case *http2.GoAwayFrame:
			return "goaway: " + f.ErrCode.String(), nil
		case *http2.MetaHeadersFrame:
			if code := f.PseudoValue("status"); code[0] != '4' {
				return "", fmt.Errorf("it is answered with %s", code)
			}
			return f.PseudoValue("status"), nil
		}
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return "", errors.New("it is not refused")
		case err != nil:
			return "closed", nil
		}
	}
}

// seen are the whole requests that an origin has read.
type seen struct {
	mu    sync.Mutex
	lines []string
}

func (s *seen) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// take returns them and forgets them.
func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.lines = nil }()
	return s.lines
}

// goOrigin is net/http.
func goOrigin(t *testing.T) (string, *seen) {
	s := &seen{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return // half a request
		}
		s.add(r.Method + " " + r.RequestURI + attackIn(r.Header))
		fmt.Fprint(w, r.RequestURI)
	}))
	t.Cleanup(h.Close)
	return h.Listener.Addr().String(), s
}

func attackIn(h http.Header) string {
	if len(h.Values(marker)) > 0 {
		return " ATTACK"
	}
	return ""
}

// recorder is a server that reads what comes byte by byte, and takes each end of a head for a request.
func recorder(t *testing.T) (string, *seen) {
	t.Helper()
	s := &seen{}
	return accepting(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				var network *net.OpError // the connection is over
				if !errors.Is(err, io.EOF) && !errors.As(err, &network) {
					s.add("UNREADABLE " + err.Error())
				}
				return
			}
			if _, err := io.ReadAll(req.Body); err != nil {
				return // half a request, and the connection is over
			}
			s.add(req.Method + " " + req.RequestURI + attackIn(req.Header))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.RequestURI), req.RequestURI)
		}
	}), s
}

// nginxOrigin is nginx, which hands whole requests to a Go server.
func nginxOrigin(t *testing.T, m *testMesh) (string, *seen) {
	behind, s := goOrigin(t)
	at := freePorts(t, 1)[0]
	dir := m.path("nginx")
	file := m.write("nginx/nginx.conf", fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    ignore_invalid_headers off;
    underscores_in_headers on;
    server {
        listen %[2]s;
        location / { proxy_pass http://%[3]s; }
    }
}
`, dir, at, behind))
	m.program("nginx", harness.Tool(t, "nginx"), "-p", dir, "-e", "stderr", "-c", file)
	return at, s
}

// nodeOrigin is Node.js, with the parser that it calls insecure.
func nodeOrigin(t *testing.T, m *testMesh) (string, *seen) {
	s := &seen{}
	told := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		line, _ := io.ReadAll(r.Body)
		s.add(string(line))
	}))
	t.Cleanup(told.Close)
	at := freePorts(t, 1)[0]
	host, port, _ := net.SplitHostPort(at)
	file := m.write("node/server.js", fmt.Sprintf(`const http = require('http');
http.createServer({insecureHTTPParser: true}, (req, res) => {
  req.resume();
  req.on('end', () => {
    if (!req.complete) return;
    const line = req.method + ' ' + req.url + (req.headers['%s'] ? ' ATTACK' : '');
    const tell = http.request('%s', {method: 'POST'}, (r) => { r.resume(); r.on('end', () => res.end(req.url)); });
    tell.end(line);
  });
}).listen(%s, '%s');
`, marker, told.URL, port, host))
	m.program("node", harness.Tool(t, "node"), file)
	return at, s
}

// foreign starts a program that is not ours.
func (m *testMesh) program(name string, args ...string) {
	m.t.Helper()
	p := &process.Process{Name: name, Args: args, Log: m.path(name + ".log")}
	m.t.Cleanup(func() {
		p.Kill()
		if m.t.Failed() {
			m.t.Logf("the end of %s's log:\n%s", name, p.Tail(10))
		}
	})
	if err := p.Start(spawner); err != nil {
		m.t.Fatal(err)
	}
}

func TestNoDowngradeAttackIsForwardedToAnyOrigin(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	origins := []struct {
		name string
		at   string
		seen *seen
	}{{name: "go"}, {name: "recorder"}, {name: "nginx"}, {name: "node"}}
	origins[0].at, origins[0].seen = goOrigin(t)
	origins[1].at, origins[1].seen = recorder(t)
	origins[2].at, origins[2].seen = nginxOrigin(t, m)
	origins[3].at, origins[3].seen = nodeOrigin(t, m)
	for _, o := range origins {
		east.service(t, "shop/"+o.name, "http", o.at)
		caller := m.sidecar("east", "to-"+o.name, "shop/web", "", "", "shop/"+o.name)
		m.answers("http://"+caller.listener+"/ready", "/ready")
		o.seen.take()
		// What the attacks are made from is no attack.
		if how, err := (attack{fields: good()}).send(caller.listener); err == nil || !strings.Contains(err.Error(), "200") {
			t.Errorf("%s: a good request is not answered: %s, %v", o.name, how, err)
		}
		if seen := o.seen.take(); !slices.Equal(seen, []string{"POST / ATTACK"}) {
			t.Errorf("%s: of a good request it has seen %q", o.name, seen)
		}
		for i, a := range attacks() {
			how, err := a.send(caller.listener)
			if err != nil {
				t.Errorf("%s, %s: %v", o.name, a.name, err)
			}
			after := fmt.Sprintf("/after/%d", i)
			code, body, err := get("http://" + caller.listener + after)
			if seen := o.seen.take(); code != http.StatusOK || body != after || err != nil || !slices.Equal(seen, []string{"GET " + after}) {
				t.Errorf("%s, %s (%s): afterwards %d %q, %v; it has seen %q", o.name, a.name, cmp.Or(how, "not refused"), code, body, err, seen)
			}
		}
	}
	t.Logf("%d attacks on each of %d origins", len(attacks()), len(origins))
}
