package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

type options struct {
	seed    uint64
	length  time.Duration // of the faults
	warmUp  time.Duration
	cool    time.Duration
	faults  []faultKind
	isthmus string // binary; empty: build it
	keep    bool   // the files, for who wants the logs
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("soak", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Uint64Var(&o.seed, "seed", 0, "what is broken, and for how long (default: another each time)")
	fs.DurationVar(&o.length, "for", 30*time.Minute, "how long things are broken")
	fs.DurationVar(&o.warmUp, "warm-up", warmUp, "load before the first sample of memory, goroutines and descriptors")
	fs.DurationVar(&o.cool, "cool-down", coolDown, "load without faults before the last sample")
	faults := fs.String("faults", "all", "kinds of faults, separated by commas; -KIND leaves one out")
	fs.StringVar(&o.isthmus, "isthmus", "", "binary to test (default: build this source tree)")
	fs.BoolVar(&o.keep, "keep", false, "keep the logs")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	o.faults, err = chosenFaults(*faults)
	if err == nil && len(o.faults) == 0 {
		err = errors.New("no fault is left")
	}
	return o, err
}

// judgesGrowth reports whether what was idle after the last fault is gone at the end.
func (o options) judgesGrowth() bool { return o.cool >= coolDown }

func main() {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		fmt.Fprintln(os.Stderr, play(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	os.Exit(command(os.Args[1:]))
}

// play is what this binary is in the mesh: a service's program or a caller's.
func play(role string, args []string) error {
	var err error
	switch {
	case role == "http" && len(args) == 4:
		err = serveHTTP(args[0], args[1], args[2], args[3])
	case role == "echo" && len(args) == 4:
		err = serveEcho(args[0], args[1], args[3])
	case role == "call" && len(args) == 2:
		err = makeLoad(args[0], args[1])
	default:
		err = fmt.Errorf("no program %s %v", role, args)
	}
	if err == nil {
		os.Exit(0)
	}
	return err
}

// command runs the soak: 0 good, 1 failed, 2 usage.
func command(args []string) int {
	o, err := parseFlags(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	good, err := soak(ctx, o, os.Stdout, log.New(os.Stderr, "", log.Ltime|log.Lmicroseconds).Println)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	if !good {
		return 1
	}
	return 0
}

// soak makes the world, breaks it for a while and prints the verdict, which is good
// or not.
func soak(ctx context.Context, o options, out io.Writer, say func(...any)) (good bool, err error) {
	if err := os.Mkdir(hosts.Dir(), 0o755); err != nil {
		return false, err
	}
	w := &world{binary: o.isthmus, socket: hosts.Dir() + "/records", spawner: process.NewSpawner()}
	if w.self, err = os.Executable(); err != nil {
		return false, err
	}
	if w.binary == "" {
		if w.binary, err = harness.Build(ctx, hosts.Dir()); err != nil {
			return false, err
		}
	}
	if err := hosts.Sweep(w.binary, hosts.Gone); err != nil {
		return false, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	j := &journal{alert: func(s string) { say("FAILURE", s) }}
	l, wait, err := listenRecords(w.socket, j.took)
	if err != nil {
		return false, err
	}
	samples, err := w.run(ctx, o, j, say)
	err = errors.Join(err, w.close())
	l.Close()
	wait()
	if len(samples) > 0 {
		good = report(out, o, j, samples)
	}
	if o.keep {
		logs := fmt.Sprintf("%s/soak-%d", os.TempDir(), o.seed)
		err = errors.Join(err, keepLogs(logs))
		say("the logs are in", logs)
	}
	return good, errors.Join(err, hosts.Sweep(w.binary, hosts.Ours))
}

// held is what a node's process held after the warm-up and at the end.
type held struct {
	name          string
	spared        bool
	before, after sample
}

// run starts the world and breaks it until the time is over.
func (w *world) run(ctx context.Context, o options, j *journal, say func(...any)) ([]held, error) {
	say("seed", o.seed)
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	say("the mesh has settled")
	if err := w.load(); err != nil {
		return nil, err
	}
	i := &injector{w: w, ctx: ctx, rng: rand.New(rand.NewPCG(o.seed, 0))}
	i.spare()
	i.wait(o.warmUp)
	pulseEnded := make(chan struct{})
	pulseCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { stop(); <-pulseEnded }()
	go func() { defer close(pulseEnded); j.watchMachine(pulseCtx, say) }()
	var all []held
	for _, n := range w.nodes() {
		s, err := n.sample(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		all = append(all, held{name: n.Name, spared: n.spared, before: s})
	}
	said := map[failure]bool{}
	for end := time.Now().Add(o.length); time.Now().Before(end) && ctx.Err() == nil; {
		i.wait(i.between(0, longestPause))
		var f *fault
		i.next(o.faults[i.rng.IntN(len(o.faults))], func(begun *fault) { f = begun; j.began(f) })
		say(fmt.Sprintf("%s, settled after %v", f, f.until.Sub(f.healed).Round(time.Millisecond)), orNothing(f.err))
		for _, failure := range j.failures() {
			if !said[failure] && time.Since(failure.at) > time.Second { // records of programs may come later than those of callers
				said[failure] = true
				say("FAILURE", failure.what)
			}
		}
	}
	say("no more faults")
	i.wait(o.cool)
	for k, n := range w.nodes() {
		s, err := n.sample(context.WithoutCancel(ctx))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		all[k].after = s
		if !o.judgesGrowth() || grown(all[k].before, s) == nil {
			continue
		}
		if b, err := n.page(context.WithoutCancel(ctx), profiles, "debug/pprof/goroutine?debug=1"); err == nil {
			_ = os.WriteFile(w.path(n.Name+"-goroutines.log"), b, 0o600)
		}
	}
	return all, nil
}

func orNothing(err error) string {
	if err == nil {
		return ""
	}
	return "FAILURE " + err.Error()
}

// failures are those so far.
func (j *journal) failures() []failure {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.judge().failures
}

// keepLogs moves the processes' logs to a directory of their own.
func keepLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(hosts.Dir(), "*.log"))
	err = errors.Join(err, os.RemoveAll(dir), os.Mkdir(dir, 0o700))
	for _, file := range logs {
		err = errors.Join(err, os.Rename(file, filepath.Join(dir, filepath.Base(file))))
	}
	return err
}

// watchMachine notes when this process, and so every other, got no time to run.
func (j *journal) watchMachine(ctx context.Context, say func(...any)) {
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-time.After(pulse):
		case <-ctx.Done():
			return
		}
		if stood := time.Since(last); stood > pulse+late {
			say("the machine stood still for", stood.Round(time.Millisecond))
			now := time.Now()
			j.began(&fault{kind: "machine-starved", target: "everybody", excuse: starved, begin: last, healed: now, until: now.Add(afterStarving)})
		}
	}
}
