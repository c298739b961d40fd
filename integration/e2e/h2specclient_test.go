package e2e

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// h2specdRuns is how often the cases may be tried again: h2specd gives each of them three
// seconds, with the start of its client in them.
const h2specdRuns = 5

func TestOurHTTP2ClientPassesEveryCaseOfH2specsServer(t *testing.T) {
	t.Parallel()
	server := goTool(t, "github.com/summerwind/h2spec/cmd/h2specd")
	for run := 1; ; run++ {
		out, err := exec.CommandContext(t.Context(), server, "-h", "127.0.0.1", "-f", strconv.Itoa(portsInARow(t, 100)), "-o", "2",
			"-e", strings.Join([]string{os.Args[0], asProgram, "h2client"}, " ")).CombinedOutput()
		said := string(out)
		if err == nil && strings.Contains(said, " tests, ") && strings.Contains(said, " 0 failed") {
			t.Log(strings.TrimSpace(said[strings.LastIndex(strings.TrimSpace(said), "\n")+1:]))
			return
		}
		if run == h2specdRuns {
			t.Fatalf("%v\n%s", err, said)
		}
	}
}

// portsInARow returns the first of n ports that are free.
func portsInARow(t *testing.T, n int) int {
	t.Helper()
	for first := 20_000; first < 32_000; first += n {
		free := true
		for port := first; port < first+n && free; port++ {
			l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no ports are free")
	return 0
}

// runHTTP2Client asks for a URL as a sidecar asks a program, reads what is answered, and keeps
// the connection for as long as the other end does, for a while at most.
func runHTTP2Client(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	nc, err := net.Dial("tcp4", u.Host)
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	conn := streams.Client(nc, streams.Config{Closed: func() { close(gone) }})
	_ = askOnce(conn, u.Host) // most of the answers are wrong ones
	select {
	case <-gone:
	case <-time.After(time.Second):
	}
	return conn.Close()
}

func askOnce(conn *streams.Conn, authority string) error {
	s, err := conn.Open()
	if err != nil {
		return err
	}
	defer s.Release()
	_ = s.SetDeadline(time.Now().Add(2 * time.Second))
	if err := s.WriteRequest(&http2.RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte(authority), Path: []byte("/")}, nil, true); err != nil {
		return err
	}
	if _, _, err := s.ReadHead(nil); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, s)
	return err
}
