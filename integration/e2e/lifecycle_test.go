package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

// asProgram begins the arguments of this test binary when it is the program beside a
// sidecar.
const asProgram = "as-program"

// runProgram is what the test binary does beside a sidecar; it returns the exit code.
func runProgram(args []string) int {
	var err error
	switch args[0] {
	case "job":
		err = runJob(args[1], args[2])
	case "server":
		err = runServer(args[1], args[2], args[3])
	case "h2client":
		err = runHTTP2Client(args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return jobCode
}

const jobCode = 3 // of a program that has done what it was to do

// runJob sends so many bytes to addr, closes and ends at once.
func runJob(addr, bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, n)); err != nil {
		return err
	}
	return c.Close()
}

// runServer answers at listen with what upstream answers, once the test at gate says
// that it may; at SIGTERM it commits to upstream and ends.
func runServer(listen, upstream, gate string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		_ = http.ListenAndServe(listen, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _, err := get("http://" + gate + "/entered")
			code, body, upErr := get("http://" + upstream + "/stock")
			if err := errors.Join(err, upErr); err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
	}()
	<-told
	code, body, err := get("http://" + upstream + "/commit")
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("commit: %d %s %w", code, body, err)
	}
	return nil
}

func TestAtSIGTERMCallersAreServedFirstAndTheProgramHasTheMeshUntilItHasEnded(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	var commits atomic.Int64
	cart := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/commit" {
			commits.Add(1)
		}
		fmt.Fprint(w, "stock")
	}))
	t.Cleanup(cart.Close)
	var warm atomic.Bool // the mesh serves: from now on the program waits
	entered, release := make(chan struct{}), make(chan struct{})
	gate := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if warm.Load() {
			close(entered)
			<-release
		}
	}))
	t.Cleanup(gate.Close)
	east.service(t, "shop/cart", "http", cart.Listener.Addr().String())
	at := freePorts(t, 1)
	orders := m.prepared("east", "orders-1", "shop/orders", "http", at[0], "shop/cart", func(s *sidecarProc) []string {
		return []string{os.Args[0], asProgram, "server", at[0], s.listener, gate.Listener.Addr().String()}
	})
	orders.start()
	web := m.sidecar("east", "web-1", "shop/web", "http", "", "shop/orders")
	m.settled(map[string]uint32{"east shop/orders": 1, "east shop/cart": 1})
	m.answers("http://"+web.listener+"/", "stock")
	warm.Store(true)

	answer := make(chan string, 1)
	go func() {
		code, body, err := get("http://" + web.listener + "/")
		answer <- fmt.Sprint(code, " ", body, " ", err)
	}()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- orders.EndAlone(syscall.SIGTERM, limit) }()
	m.eventually(func() error { // it has begun to drain
		c, err := net.Dial("tcp", orders.inbound)
		if err != nil {
			return nil
		}
		_ = c.Close()
		return errors.New("the inbound port is open")
	})
	if commits.Load() != 0 {
		t.Error("the program was told before its caller had an answer")
	}
	close(release)
	if got := <-answer; got != "200 stock <nil>" {
		t.Errorf("a request in flight that calls another service: %s", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if commits.Load() != 1 {
		t.Errorf("%d commits: the program could not reach the mesh at its end", commits.Load())
	}
}

func TestAGoodbyeCallResolvesAMeshName(t *testing.T) {
	for _, mode := range []string{"ebpf", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			m := newMesh(t, "east")
			m.needRoot()
			east := m.gateway("east", "east-1")
			said := make(chan string, 1)
			cart := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { said <- r.URL.Path }))
			t.Cleanup(cart.Close)
			east.service(t, "shop/cart", "http", cart.Listener.Addr().String())
			m.settled(map[string]uint32{"east shop/cart": 1})
			c := m.capturing("goodbye-"+mode, "mode: "+mode,
				"trap 'curl -sS -m 10 http://cart.shop.mesh/goodbye; exit 0' TERM\necho done\nwhile :; do sleep 0.05; done")
			c.output(m)
			c.endAlone(syscall.SIGTERM)
			select {
			case path := <-said:
				if path != "/goodbye" {
					t.Error(path)
				}
			default:
				b, _ := os.ReadFile(c.out)
				t.Errorf("nobody said goodbye: %s", b)
			}
		})
	}
}

func TestAJobsLastBytesArriveThroughSidecarsAndGateways(t *testing.T) {
	t.Parallel()
	const size, runs = 2 << 20, 10
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	arrived := make(chan int64, 1)
	go func() {
		for {
			c, err := sink.Accept()
			if err != nil {
				return
			}
			go func() {
				n, _ := io.Copy(io.Discard, c)
				_ = c.Close()
				if n > 0 { // else a health check
					arrived <- n
				}
			}()
		}
	}()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.sidecar("west", "sink-1", "shop/sink", "tcp", sink.Addr().String(), "")
	watch := m.sidecar("east", "watch-1", "shop/watch", "tcp", "", "shop/sink")
	m.eventually(func() error { // a job has one try: east's gateway must have told its sidecars
		a, err := status.Ask(t.Context(), watch.admin)
		if err == nil && a.Sidecar.Upstreams[0].State != "known" {
			err = errors.New("no route yet")
		}
		return err
	})
	s := m.prepared("east", "job-1", "shop/job", "tcp", "", "shop/sink", func(s *sidecarProc) []string {
		return []string{os.Args[0], asProgram, "job", s.listener, strconv.Itoa(size)}
	})
	jobs := map[string][]string{"explicit": s.Args}
	if os.Geteuid() == 0 {
		for _, mode := range []string{"ebpf", "nftables"} {
			jobs[mode] = m.capturingProgram("job-"+mode, "mode: "+mode, os.Args[0], asProgram, "job", "sink.shop.mesh:80", strconv.Itoa(size)).Args
		}
	}
	for way, args := range jobs {
		t.Run(way, func(t *testing.T) { testJobs(t, args, runs, size, arrived) })
	}
}

func testJobs(t *testing.T, args []string, runs int, size int64, arrived <-chan int64) {
	for range runs {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != jobCode {
			t.Fatalf("the job ended with %v, not with exit code %d:\n%s", err, jobCode, out)
		}
		select {
		case n := <-arrived:
			if n != size {
				t.Errorf("%d bytes of %d arrived:\n%s", n, size, out)
			}
		case <-ctx.Done():
			t.Fatalf("nothing arrived:\n%s", out)
		}
	}
}

func TestSignalsReachTheProgramAndOrphansAreReapedByPID1(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	m.needRoot()
	m.gateway("east", "east-1")
	script := `for s in HUP USR1 USR2 WINCH QUIT; do trap "echo $s" $s; done
(sleep 0.2 & sleep 0.2 &)
sleep 0.5
echo "zombies: $(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z 1 ')"
echo started as child of $PPID
while :; do sleep 0.05; done`
	s := m.prepared("east", "first-1", "shop/first", "tcp", "", "", func(*sidecarProc) []string { return []string{"/bin/sh", "-c", script} })
	s.Args = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}, s.Args...)
	s.start()
	says := func(want string) {
		t.Helper()
		m.eventually(func() error {
			if b, err := os.ReadFile(s.Log); err != nil || !strings.Contains(string(b), want+"\n") {
				return fmt.Errorf("no %q in its log: %w", want, err)
			}
			return nil
		})
	}
	says("started as child of 1")
	says("zombies: 0")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	for name, sig := range map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH, "QUIT": syscall.SIGQUIT,
	} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		says(name)
	}
}

func TestASidecarReloadsItsFileWhileItsProgramRunsOn(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	cart := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "cart") }))
	t.Cleanup(cart.Close)
	east.service(t, "shop/cart", "http", cart.Listener.Addr().String())
	s := m.sidecar("east", "web-1", "shop/web", "http", "", "shop/cart", "/bin/sh", "-c", `trap 'echo hung up' HUP; echo the program starts; while :; do sleep 0.05; done`)
	m.answers("http://"+s.listener+"/", "cart")

	file := m.path("web-1", "sidecar.yaml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second := freePorts(t, 1)[0]
	m.write("web-1/sidecar.yaml", string(before)+fmt.Sprintf("  - {listen: %q, service: shop/cart}\n", second))
	if out := m.isthmus("reload", "--admin", s.admin); out != "reloaded: upstreams\n" {
		t.Errorf("isthmus reload says %s", out)
	}
	m.answers("http://"+second+"/", "cart")

	m.write("web-1/sidecar.yaml", string(before)+"nonsense: true\n")
	out, err := exec.CommandContext(t.Context(), binary, "reload", "--admin", s.admin).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sidecar.yaml:") || !strings.Contains(string(out), "nonsense") {
		t.Errorf("a bad file: %v, %s", err, out)
	}
	m.answers("http://"+second+"/", "cart")

	m.write("web-1/sidecar.yaml", string(before))
	if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.eventually(func() error {
		if c, err := net.Dial("tcp", second); err == nil {
			_ = c.Close()
			return errors.New("the upstream that is gone from the file still listens")
		}
		if log := s.Tail(100); !strings.Contains(log, "hung up") || strings.Count(log, "the program starts") != 1 {
			return errors.New("the program was not told of SIGHUP, or did not run on")
		}
		return nil
	})
	m.answers("http://"+s.listener+"/", "cart")
}

func TestReadyzIsReadinessAndLivezIsLife(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	program := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(program.Close)
	s := m.sidecar("east", "web-1", "shop/web", "http", program.Listener.Addr().String(), "shop/web")
	ready := func(want string) {
		t.Helper()
		m.eventually(func() error {
			code, body, err := get("http://" + s.admin + "/readyz")
			if err != nil || (code == 200) != (want == "") || !strings.Contains(body, want) {
				return fmt.Errorf("readyz is %d %q %w, want %q", code, body, err, want)
			}
			return nil
		})
		if code, _, err := get("http://" + s.admin + "/livez"); err != nil || code != 200 {
			t.Errorf("livez is %d, %v", code, err)
		}
	}
	ready("")
	east.end(syscall.SIGKILL)
	ready("gateways: none serves this sidecar: " + east.xds)
	tries := regexp.MustCompile(`isthmus_xds_client_streams_total (\d+)`)
	m.eventually(func() error { // some more in vain
		_, metrics, err := get("http://" + s.admin + "/metrics")
		if n := tries.FindStringSubmatch(metrics); n == nil || len(n[1]) == 1 && n[1] < "5" {
			return fmt.Errorf("tries: %v %w", n, err)
		}
		return nil
	})
	east.start()
	ready("")
	log := s.Tail(1000)
	for line, n := range map[string]int{
		"routes no longer come from this gateway": 1, "no longer registered with this gateway": 1,
		"routes come from this gateway": 2, "registered with this gateway\" gateway=": 3,
	} {
		if got := strings.Count(log, line); got > n || got == 0 {
			t.Errorf("%d lines say %q, want %d:\n%s", got, line, n, log)
		}
	}
	if n := strings.Count(log, "level=WARN"); n > 2 { // the program's first check and a gateway that knows nothing yet, if at all
		t.Errorf("%d warnings of a gateway that was back within a minute:\n%s", n, log)
	}
	program.Close()
	ready("program: nothing at " + program.Listener.Addr().String() + " answers")
}

func TestAnExpiredCertificateOfOnesOwnIsSaidEverywhereWithItsDate(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	cart := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "cart") }))
	t.Cleanup(cart.Close)
	m.sidecar("east", "cart-1", "shop/cart", "http", cart.Listener.Addr().String(), "")
	east.service(t, "shop/plain", "http", cart.Listener.Addr().String())
	m.settled(map[string]uint32{"east shop/cart": 1, "east shop/plain": 1})
	s := m.prepared("east", "web-1", "shop/web", "http", cart.Listener.Addr().String(), "shop/cart", func(*sidecarProc) []string { return nil })
	m.isthmus("pki", "workload", "--force", "--ttl", "5s", "--cluster", "east", "shop/web", "-d", m.path("pki"), "-o", m.path("web-1", "pki"))
	s.start()
	m.answers("http://"+s.listener+"/", "cart")
	ended := regexp.MustCompile(`own certificate \(.*/shop/.*web\) expired at 20[0-9-]+T[0-9:]+Z`)
	m.eventually(func() error {
		code, body, err := get("http://" + s.listener + "/")
		if code == 200 || err != nil {
			return fmt.Errorf("%d %w", code, err)
		}
		if !ended.MatchString(body) {
			t.Errorf("callers are told %d %s", code, body)
		}
		return nil
	})
	if code, body, err := get("http://" + s.admin + "/readyz"); err != nil || code != 503 || !ended.MatchString(body) {
		t.Errorf("readyz is %d %s %v", code, body, err)
	}
	out, err := exec.CommandContext(t.Context(), binary, "status", "--admin", s.admin).CombinedOutput()
	if err == nil || !ended.Match(out) || !strings.Contains(string(out), "its certificate ended 20") || strings.Contains(string(out), "avoided for") {
		t.Errorf("status: %v %s", err, out)
	}
	m.eventually(func() error {
		if log := s.Tail(200); !strings.Contains(log, "certificate has expired: no peer accepts this process") || strings.Contains(log, "bad certificate") {
			return fmt.Errorf("the log says:\n%s", log)
		}
		return nil
	})
	m.isthmus("pki", "workload", "--force", "--cluster", "east", "shop/web", "-d", m.path("pki"), "-o", m.path("web-1", "pki"))
	m.answers("http://"+s.listener+"/", "cart") // at once: nobody else was to blame
}
