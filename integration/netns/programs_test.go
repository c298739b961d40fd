package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/rpc"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// play is this test binary as one of the programs that know nothing of the mesh.
func play(role string, args []string) {
	ctx := context.Background()
	var err error
	switch role {
	case "agent":
		err = serveAgent(args[0])
	case "serve-direct":
		err = serveDirect(args[0])
	case "serve-grpc":
		err = serveGRPC(args[0])
	case "serve-websocket":
		err = serveWebSocket(args[0])
	case "serve-peer":
		err = servePeer(args[0])
	case "plain":
		err = callPlain(args[0])
	case "http":
		err = callHTTP(ctx, args[0])
	case "grpc":
		err = callGRPC(ctx, args[0])
	case "websocket":
		err = callWebSocket(ctx, args[0])
	case "resolve":
		err = resolve(ctx, args[0])
	case "serve-names":
		err = serveNames(args[0], args[1])
	case "ask-server":
		err = askServer(ctx, args[0], args[1], args[2])
	case "load":
		err = callForever(ctx, args)
	default:
		err = fmt.Errorf("no program %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func callHTTP(ctx context.Context, url string) error {
	body, err := fetch(ctx, http.DefaultClient, url)
	fmt.Print(body)
	return err
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// serveDirect answers where no packet of the mesh should arrive.
func serveDirect(addr string) error {
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "directly")
	}))
}

// serveGRPC serves gRPC's own health service, in which "ticking" changes state.
func serveGRPC(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	h := health.NewServer()
	go func() {
		for up := true; ; up = !up {
			status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
			if up {
				status = grpc_health_v1.HealthCheckResponse_SERVING
			}
			h.SetServingStatus("ticking", status)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	return s.Serve(l)
}

// callGRPC makes a call and then reads a stream of changes.
func callGRPC(ctx context.Context, target string) error {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Println("check", answer.GetStatus())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "ticking"})
	if err != nil {
		return err
	}
	changes := 0
	for last := grpc_health_v1.HealthCheckResponse_UNKNOWN; changes < 10; changes++ {
		change, err := stream.Recv()
		if err != nil {
			return err
		}
		if change.GetStatus() == last {
			return fmt.Errorf("told %v twice", last)
		}
		last = change.GetStatus()
	}
	fmt.Println("watched", changes)
	return nil
}

// serveWebSocket greets and echoes.
func serveWebSocket(addr string) error {
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(2 << 20)
		err = c.Write(r.Context(), websocket.MessageText, []byte("a greeting from north"))
		for err == nil {
			var kind websocket.MessageType
			var b []byte
			if kind, b, err = c.Read(r.Context()); err == nil {
				err = c.Write(r.Context(), kind, b)
			}
		}
	}))
}

// callWebSocket is greeted, and has a short and a long message echoed.
func callWebSocket(ctx context.Context, url string) error {
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	c.SetReadLimit(2 << 20)
	_, greeting, err := c.Read(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", greeting)
	for _, said := range []string{"short", strings.Repeat("long", 1<<18)} {
		if err := c.Write(ctx, websocket.MessageText, []byte(said)); err != nil {
			return err
		}
		_, heard, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if string(heard) != said {
			return fmt.Errorf("the echo of %d bytes is another", len(said))
		}
		fmt.Println("echo", len(heard))
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

// resolve prints the addresses of a name.
func resolve(ctx context.Context, name string) error {
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return err
	}
	for _, a := range all {
		fmt.Println(a.Unmap())
	}
	return nil
}

// callForever makes one connection after another to each of the addresses and
// prints a line for each: who answered, "refused", or what else went wrong.
func callForever(ctx context.Context, addresses []string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit / 2}
	call := func(address netip.Addr) string {
		body, err := fetch(ctx, client, "http://"+netip.AddrPortFrom(address, 80).String()+"/")
		who, _, _ := strings.Cut(body, ",")
		switch {
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPERM): // the latter before Linux 5.18
			return "refused"
		case err != nil:
			return err.Error()
		}
		return who
	}
	ended := make(chan error)
	for _, s := range addresses {
		address, err := netip.ParseAddr(s)
		if err != nil {
			return err
		}
		go func() {
			for {
				line := strings.ReplaceAll(strings.TrimSpace(call(address)), "\n", " ")
				if _, err := fmt.Println(line); err != nil {
					ended <- err
					return
				}
				time.Sleep(time.Millisecond) // a load, not a flood
			}
		}()
	}
	return <-ended
}

// Agent is the program beside a sidecar that runs what the test asks it to: the
// programs it starts are captured as it is.
type Agent struct{}

// Ran is what a program has printed.
type Ran struct {
	Output string
	Err    string // empty: it succeeded
}

func serveAgent(socket string) error {
	s := rpc.NewServer()
	if err := s.Register(&Agent{}); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s.Accept(l)
	return nil
}
