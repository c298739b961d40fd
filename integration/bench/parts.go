package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/isthmus-mesh/isthmus/integration/bench/load"
)

// The parts that this program plays as a process of its own, in another network namespace or on
// another core: each is a command with one argument, JSON.
const (
	loadCommand   = "load"   // the load generator
	loneCommand   = "lone"   // a load of one connection after another
	holdCommand   = "hold"   // connections on which nothing is asked, until stdin ends
	originCommand = "origin" // a program that speaks HTTP/2
)

var parts = map[string]func(args []byte, stdin io.Reader, stdout io.Writer) error{
	loadCommand:   func(args []byte, _ io.Reader, stdout io.Writer) error { return generateLoad(args, stdout, load.Run) },
	loneCommand:   func(args []byte, _ io.Reader, stdout io.Writer) error { return generateLoad(args, stdout, lone) },
	holdCommand:   hold,
	originCommand: origin,
}

// job is a load and whom it is for.
type job struct {
	load.Options
	URL string // whose host is resolved where the load runs
}

// readJob reads a job, and asks for its address.
func readJob(args []byte) (load.Options, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	var j job
	if err := json.Unmarshal(args, &j); err != nil {
		return load.Options{}, err
	}
	u, err := url.Parse(j.URL)
	if err != nil {
		return load.Options{}, err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Hostname())
	if err != nil {
		return load.Options{}, err
	}
	port := uint64(80)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil {
			return load.Options{}, err
		}
	}
	j.Address, j.Authority = netip.AddrPortFrom(addresses[0].Unmap(), uint16(port)), u.Host
	return j.Options, nil
}

// generateLoad makes a load and writes what it saw.
func generateLoad(args []byte, stdout io.Writer, run func(load.Options) (load.Result, error)) error {
	o, err := readJob(args)
	if err != nil {
		return err
	}
	r, err := run(o)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}

// hold holds connections; it writes a line when all are there.
func hold(args []byte, stdin io.Reader, stdout io.Writer) error {
	o, err := readJob(args)
	if err != nil {
		return err
	}
	release := make(chan struct{})
	ready := func() error {
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			close(release)
		}()
		_, err := fmt.Fprintln(stdout, "ready")
		return err
	}
	return load.Hold(o, ready, release)
}

// served is what the origin's process is told.
type served struct {
	Listen   string
	Protocol load.Protocol
}

func origin(args []byte, _ io.Reader, _ io.Writer) error {
	var s served
	if err := json.Unmarshal(args, &s); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", s.Listen)
	if err != nil {
		return err
	}
	return errors.Join(load.Origin(l, s.Protocol, body), errors.New("it has ended"))
}
