package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are what the command line asks for.
type options struct {
	rounds  int
	seconds time.Duration // of load per round and contender
	warmup  time.Duration // of load per contender
	flows   []string
	idle    []int         // connections on which nothing is asked
	settle  time.Duration // from the last request on them until memory is read
	isthmus string        // binary to measure; empty: build it
	before  string        // another build of isthmus; empty: none
	output  string        // table or json
	profile string        // directory for CPU profiles of our processes; empty: none
}

// smoke shortens a run to one second per contender: it shows that everything
// still works, and its figures mean nothing.
func (o *options) smoke() {
	o.rounds, o.seconds, o.warmup, o.idle, o.settle = 1, time.Second, 0, []int{smokeIdle}, 0
}

// limit bounds a whole run, whatever hangs.
func (o *options) limit() time.Duration {
	const most, build = 7, 4 * time.Minute // contenders of a flow; compiling with an empty cache
	perContender := time.Duration(o.rounds)*2*(o.seconds+o.seconds/loneShare+time.Second) + o.warmup + startLimit + idleLimit
	return build + time.Duration(len(o.flows))*most*perContender
}

// parseFlags reads the command line.
func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{warmup: warmup, idle: idleConnections[:], settle: idleSettle}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.rounds, "rounds", 5, "how often every contender is measured")
	secs := fs.Int("seconds", 2, "length of a round")
	flows := fs.String("flows", allFlows, "what to measure, in this order: h1, h2, grpc-unary (one proxy), pair-… (two, with mTLS between),\n"+
		"path-… (four hops), idle and idle-tcp (memory of idle connections);\n"+
		"as root, through interception: connect (a connection per request), capture (connections kept), beside and beside-keep (both, past the mesh)")
	smoke := fs.Bool("smoke", false, "one second per contender: shows that it runs, measures nothing")
	fs.StringVar(&o.isthmus, "isthmus", "", "binary to measure (default: build this source tree)")
	fs.StringVar(&o.before, "before", "", "another build of isthmus, measured beside it in the flows without interception: what did a change cost?")
	fs.StringVar(&o.profile, "profile", "", "directory for a CPU profile of each of our processes, made during the last round of each flow; it is made if it is not there")
	fs.StringVar(&o.output, "o", "table", "output: table or json")
	fs.Usage = func() {
		fmt.Fprintln(stderr, "Measures isthmus beside nginx, HAProxy and Envoy; see README.md beside the source.")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.seconds = time.Duration(*secs) * time.Second
	if *smoke {
		o.smoke()
	}
	var err error
	o.flows, err = parseFlows(*flows)
	switch {
	case err != nil:
		return o, fmt.Errorf("-flows: %w", err)
	case fs.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.rounds < 1 || o.rounds > 100:
		return o, fmt.Errorf("-rounds %d: write 1 to 100", o.rounds)
	case *secs < 1 || *secs > 60:
		return o, fmt.Errorf("-seconds %d: write 1 to 60", *secs)
	case o.output != "table" && o.output != "json":
		return o, fmt.Errorf("-o %s: write table or json", o.output)
	}
	return o, nil
}

func main() { os.Exit(command(os.Args[1:])) }

// command runs the benchmark: 0 good, 1 failed, 2 usage.
func command(args []string) int {
	if len(args) == 2 {
		if run := parts[args[0]]; run != nil {
			if err := run([]byte(args[1]), os.Stdin, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		}
	}
	opts, err := parseFlags(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := run(ctx, opts, os.Stderr)
	if err == nil {
		write := r.writeTable
		if opts.output == "json" {
			write = r.writeJSON
		}
		err = write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}
