package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// answer is what the server says of itself and of who calls it.
type answer struct {
	Cluster string `json:"cluster"` // environment CLUSTER
	Pod     string `json:"pod"`
	Path    string `json:"path"`
	Host    string `json:"host"`
	Caller  string `json:"caller"` // x-forwarded-client-cert
	Remote  string `json:"remote"`
}

// serve answers until ctx ends, and finishes what it began, as a well-behaved
// program does at SIGTERM.
func serve(ctx context.Context) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if wait, err := time.ParseDuration(r.FormValue("wait")); err == nil {
			time.Sleep(wait)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer{
			Cluster: os.Getenv("CLUSTER"), Pod: pod, Path: r.URL.Path, Host: r.Host,
			Caller: r.Header.Get("X-Forwarded-Client-Cert"), Remote: r.RemoteAddr,
		})
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":9000")
	if err != nil {
		return err
	}
	defer plain.Close()
	go echo(plain, fmt.Sprintf("hello from %s/%s\n", os.Getenv("CLUSTER"), pod))
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- server.Shutdown(limit)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

// echo greets, as a database does, and sends back what comes.
func echo(l net.Listener, greeting string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := io.WriteString(c, greeting); err == nil {
				_, _ = io.Copy(c, c)
			}
		}()
	}
}
