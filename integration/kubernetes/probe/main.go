// Command probe is the program in the tests' pods: a server that says who it is, and
// clients that say what they got. One static program, so that its image holds nothing else.
//
//	probe serve                            HTTP on :8080, TCP that greets and echoes on :9000
//	probe get URL                          one request, to where variables may lead ($DB_SERVICE_HOST); its body, or why not
//	probe call [-rate 50] URL              requests until SIGTERM; what came of them, a line a second
//	probe lookup NAME                      the addresses of a name
//	probe wait                             nothing, until SIGTERM
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	command, args := "wait", []string(nil)
	if len(os.Args) > 1 {
		command, args = os.Args[1], os.Args[2:]
	}
	if err := run(ctx, command, args); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string, args []string) error {
	switch {
	case command == "serve" && len(args) == 0:
		return serve(ctx)
	case command == "get" && len(args) == 1:
		return get(ctx, args[0])
	case command == "call":
		return call(ctx, args)
	case command == "lookup" && len(args) == 1:
		return lookup(ctx, args[0])
	case command == "wait" && len(args) == 0:
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("usage: probe serve | get URL | call [-rate N] URL | lookup NAME | wait")
}

// get makes one request. Whatever the answer's status is, its body is printed; only
// 200 is success.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, os.ExpandEnv(url), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}

func lookup(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, " "))
	return nil
}
