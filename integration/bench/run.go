package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/process"
	"golang.org/x/sync/errgroup"
)

// bench is one run: where its files are and what it has started.
type bench struct {
	opts  options
	log   io.Writer // progress
	dir   string    // of everything; removed at the end
	tools tools
	cpus  cpus
	spawn *process.Spawner
	ports *process.Ports
	pki   certificates

	origins  map[program]string // the addresses of the programs; nginx's in every network namespace
	started  []*process.Process
	profiled map[*process.Process]string // where our processes serve their profiles, if somebody wants them
	worlds   map[string]*world           // by the name of their way
}

// sample is one round of one contender.
type sample struct {
	loadSample
	conns int             // between the two ends of the TLS, amid the round
	cpu   []time.Duration // of each that the contender's counted names
	rss   uint64          // bytes, of all of them, at the end of the round
	other float64         // cores that programs outside the benchmark used meanwhile
}

// result is a flow with all its samples.
type result struct {
	flow    *flow
	samples [][]sample // per contender, per round
	rate    float64    // requests a second of halfLoad
	half    [][]sample // the same at that rate, which all contenders can do
	idle    [][]idle   // per contender, per number of connections
}

// run measures the flows that opts ask for.
func run(ctx context.Context, opts options, log io.Writer) (r *report, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, opts.limit(), fmt.Errorf("not done after %v", opts.limit()))
	defer cancel()
	b := &bench{opts: opts, log: log, ports: process.NewPorts(), spawn: process.NewSpawner(), worlds: map[string]*world{}, profiled: map[*process.Process]string{}}
	defer b.spawn.Close()
	defer func() { b.stop(b.started) }()
	if opts.profile != "" {
		if err := os.MkdirAll(opts.profile, 0o755); err != nil {
			return nil, fmt.Errorf("-profile: %w", err)
		}
	}
	if b.dir, err = os.MkdirTemp("", "isthmus-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	defer func() { err = errors.Join(err, b.closeWorlds(ctx)) }()

	if b.tools, err = findTools(ctx); err != nil {
		return nil, err
	}
	if b.tools.isthmus = opts.isthmus; b.tools.isthmus == "" {
		if b.tools.isthmus, err = buildIsthmus(ctx, b.dir); err != nil {
			return nil, err
		}
	}
	if b.tools.envoy == "" {
		fmt.Fprintln(log, "envoy is not installed and left out: scripts/bench installs it")
	}
	if b.cpus, err = chooseCPUs(); err != nil {
		return nil, err
	}
	if err = b.newCertificates(ctx); err != nil {
		return nil, err
	}
	if err = b.startOrigins(ctx); err != nil {
		return nil, err
	}
	r = newReport(ctx, opts, &b.tools, b.cpus)
	for _, name := range opts.flows {
		res, err := b.measure(ctx, name)
		switch {
		case errors.Is(err, errCannotCapture):
			fmt.Fprintf(log, "%s is left out: %v\n", name, err)
		case err != nil:
			return nil, fmt.Errorf("flow %s: %w", name, err)
		default:
			r.add(res)
		}
	}
	if len(r.Flows) == 0 {
		return nil, errors.New("nothing was measured")
	}
	return r, nil
}

// startOrigins starts the programs that flows end at.
func (b *bench) startOrigins(ctx context.Context) error {
	addrs, err := b.ports.Take(3)
	if err != nil {
		return err
	}
	b.origins = map[program]string{httpProgram: addrs[0], tcpProgram: addrs[0], http2Program: addrs[1], grpcProgram: addrs[2]}
	origin, err := b.newOrigin("origin")
	if err != nil {
		return err
	}
	ps := []*process.Process{origin}
	for _, t := range []traffic{streams, calls} {
		dir, err := b.subdir("origin-" + string(t.program))
		if err != nil {
			return err
		}
		cmd, err := b.part(ctx, originCommand, served{b.origins[t.program], t.protocol})
		if err != nil {
			return err
		}
		ps = append(ps, newProcess("origin", dir, place{cpu: b.cpus.load}, cmd.Args...))
	}
	if err := b.start(ps); err != nil {
		return err
	}
	for _, t := range []traffic{requests, streams, calls} {
		c := &contender{url: "http://" + b.origins[t.program] + "/", traffic: t, load: place{cpu: b.cpus.load}}
		if err := b.answers(ctx, c, ps); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) originURL() string { return "http://" + b.origins[httpProgram] + "/" }

// measure runs one flow: all contenders are started, then take turns.
func (b *bench) measure(ctx context.Context, name string) (*result, error) {
	f, err := flowMakers[name](b)
	if err != nil {
		return nil, err
	}
	for _, c := range f.contenders {
		fmt.Fprintf(b.log, "%s: start %s\n", name, c.name)
		ps := c.processes()
		if c.world == nil {
			defer b.stop(ps)
			err = b.start(ps)
		} else {
			err = b.enter(ctx, c)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if err := b.answers(ctx, c, ps); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	r := &result{flow: f}
	if f.idle {
		r.idle, err = b.measureIdle(ctx, f)
		return r, err
	}
	for _, c := range f.contenders {
		if err := b.proveHop(ctx, c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if b.opts.warmup > 0 {
			if _, err := b.runLoad(ctx, c, b.opts.warmup, 0); err != nil {
				return nil, fmt.Errorf("warm up %s: %w", c.name, err)
			}
		}
	}
	if r.samples, err = b.rounds(ctx, f, 0); err != nil {
		return nil, err
	}
	if f.contenders[0].world == nil {
		r.rate = halfOfSlowest(r.samples)
		r.half, err = b.rounds(ctx, f, r.rate)
	}
	return r, err
}

// halfOfSlowest returns half of the requests per second that the slowest contender
// answers when it is asked as much as it can.
func halfOfSlowest(samples [][]sample) float64 {
	slowest := math.Inf(1)
	for _, ss := range samples {
		var rates []float64
		for i := range ss {
			rates = append(rates, ss[i].rate())
		}
		slowest = min(slowest, median(rates))
	}
	return slowest / 2
}

// rounds measures all contenders in turn: under as much load as they can do, or at a rate.
func (b *bench) rounds(ctx context.Context, f *flow, rate float64) ([][]sample, error) {
	samples := make([][]sample, len(f.contenders))
	for round := range b.opts.rounds {
		for i := range f.contenders {
			if round%2 == 1 { // there and back, so that a drift hits all alike
				i = len(f.contenders) - 1 - i
			}
			c := f.contenders[i]
			var profiles errgroup.Group
			if rate == 0 && round == b.opts.rounds-1 {
				b.profile(ctx, &profiles, f, c)
			}
			s, err := b.sample(ctx, c, rate)
			if err = errors.Join(err, profiles.Wait()); err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			samples[i] = append(samples[i], s)
			fmt.Fprintf(b.log, "%s: round %d of %d: %-13s %6.0f req/s, %6.1f µs CPU per request, p99 %v\n",
				f.name, round+1, b.opts.rounds, c.name, s.rate(), s.cpuPerRequest(), s.P99)
		}
	}
	return samples, nil
}

// showsCPU is how many requests use so much CPU in each process on their way that
// the kernel's clock ticks, which it is counted in, cannot all have missed it.
const showsCPU = 2000

// sample runs one round of load and reads what it cost.
func (b *bench) sample(ctx context.Context, c *contender, rate float64) (sample, error) {
	lone := loadSample{}
	if c.reconnect {
		var err error
		if lone, err = b.runLone(ctx, c, b.opts.seconds/loneShare); err != nil {
			return sample{}, errors.Join(err, firstDead(c.processes()))
		}
	}
	before, err := b.account(c)
	if err != nil {
		return sample{}, err
	}
	conns := make(chan int, 1)
	midway := time.AfterFunc(b.opts.seconds/2, func() { conns <- connectionsTo(c.hop.address) })
	defer midway.Stop()
	l, err := b.runLoad(ctx, c, b.opts.seconds, rate)
	if err != nil {
		return sample{}, errors.Join(err, firstDead(c.processes()))
	}
	after, err := b.account(c)
	if err != nil {
		return sample{}, errors.Join(err, firstDead(c.processes()))
	}
	s := sample{loadSample: l}
	if c.reconnect {
		s.P50, s.P99 = lone.P50, lone.P99
	}
	s.conns = <-conns
	for i, p := range c.path {
		used := after.path[i] - before.path[i]
		if used <= 0 && l.Requests >= showsCPU {
			return sample{}, fmt.Errorf("%s used no CPU: the traffic went round it", p.Name)
		}
		s.cpu = append(s.cpu, used)
		rss, err := rssOf(p.PID())
		if err != nil {
			return sample{}, err
		}
		s.rss += rss
	}
	if c.world != nil {
		s.cpu = append(s.cpu, l.cpu)
	}
	ours := after.ours - before.ours + l.cpu
	s.other = max(0, (after.machine-before.machine-ours).Seconds()/after.at.Sub(before.at).Seconds())
	return s, nil
}

// account is what had been used at one moment.
type account struct {
	at      time.Time
	path    []time.Duration // by each process of a contender's path
	ours    time.Duration   // by the benchmark and everything it runs, but the load
	machine time.Duration   // by everything
}

func (b *bench) account(c *contender) (account, error) {
	a := account{at: time.Now()}
	var err error
	if a.machine, err = machineCPU(); err != nil {
		return a, err
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return a, err
	}
	a.ours = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	a.path = make([]time.Duration, len(c.path))
	for _, p := range b.started {
		cpu, err := cpuOf(p.PID())
		if err != nil {
			return a, fmt.Errorf("%s: %w", p.Name, err)
		}
		a.ours += cpu
		if i := slices.Index(c.path, p); i >= 0 {
			a.path[i] = cpu
		}
	}
	return a, nil
}

// start starts processes in order.
func (b *bench) start(ps []*process.Process) error {
	for _, p := range ps {
		if err := p.Start(b.spawn); err != nil {
			return err
		}
		b.started = append(b.started, p)
	}
	return nil
}

// stop ends processes.
func (b *bench) stop(ps []*process.Process) {
	for _, p := range slices.Clone(ps) {
		p.Kill() // it holds nothing that is worth an orderly end
		b.started = slices.DeleteFunc(b.started, func(q *process.Process) bool { return q == p })
	}
}

// subdir makes a directory of the run.
func (b *bench) subdir(elem ...string) (string, error) {
	dir := filepath.Join(append([]string{b.dir}, elem...)...)
	dir = strings.ReplaceAll(dir, " ", "-")
	return dir, os.MkdirAll(dir, 0o700)
}
