package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const fewDescriptors = "ISTHMUS_TEST_FEW_DESCRIPTORS" // the program's address

// A sidecar with 64 descriptors, which ends with its standard input.
func TestSidecarWithFewDescriptors(t *testing.T) {
	target := os.Getenv(fewDescriptors)
	if target == "" {
		return // it is a process of the test below
	}
	w := newWorld(t)
	w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	p := w.outboundProxy(route(mesh.HTTP, plainAt("a", target)))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("listens " + explicitAddr(p).String())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestOutOfDescriptorsASidecarRecoversAtOnceAfterTheBurst(t *testing.T) {
	w := newWorld(t)
	target := w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(20 * time.Millisecond) // work
		fmt.Fprint(rw, "ok")
	}))
	child := exec.Command(os.Args[0], "-test.run=^TestSidecarWithFewDescriptors$", "-test.v")
	child.Env = append(os.Environ(), fewDescriptors+"="+target)
	var log bytes.Buffer
	child.Stderr = &log
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = in.Close()
			_, _ = io.Copy(io.Discard, out)
			_ = child.Wait()
		}
	}
	defer end()
	addr := ""
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		_, addr, _ = strings.Cut(lines.Text(), "listens ")
	}
	if addr == "" {
		t.Fatal("the sidecar did not start")
	}
	// Each request has a connection of its own, which stays for a while, as those of
	// many callers do.
	post := func() (int, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return 0, err
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
			return 0, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode, nil
	}
	var burst sync.WaitGroup
	for range 300 {
		burst.Go(func() { _, _ = post() })
	}
	burst.Wait()
	failed := 0
	for range 100 {
		if code, err := post(); code != 200 {
			failed++
			if failed < 3 {
				t.Log(code, err)
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of 100 requests after the burst failed", failed)
	}
	end()
	warned := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "msg=request") {
			warned++
		}
	}
	if warned > 10 || warned == 0 {
		t.Errorf("%d lines are logged about it: %s", warned, log.String()[:min(log.Len(), 2000)])
	}
}
