package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// The phases, in order.
const (
	phaseJoin           = "join"
	phaseSteady         = "steady"
	phaseInstanceKilled = "instance-killed"
	phaseServiceDown    = "service-down"
	phaseGatewayKilled  = "gateway-killed"
	phaseClusterFrozen  = "cluster-frozen"
	phaseRecovered      = "recovered"
	phaseRenewed        = "renewed"
)

const (
	convergeTimeout = 45 * time.Second // for all processes to find each other
	phaseTime       = 4 * time.Second
	recoverTimeout  = 45 * time.Second // for all traffic to be back home
	renewTimeout    = 45 * time.Second // for the last certificate to be renewed
	homeTime        = 2 * time.Second  // all answers from east for this long: it is back
	pollEvery       = 100 * time.Millisecond
	pollTimeout     = time.Second
	sayEvery        = time.Second // between two lines of what is being waited for
)

// Options says how the demo runs.
type Options struct {
	Dir      string    // where configs, certificates, state and logs go; must exist
	Progress io.Writer // live progress for people
	Keep     bool      // afterwards leave everything running until ctx ends
}

// Run plays the script. The report is complete unless an error is returned: an
// error means that the demo itself could not run, not that a promise broke.
func Run(ctx context.Context, o Options) (*Report, error) {
	lay, err := newLayout(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &demo{layout: lay, out: o.Progress, spawn: process.NewSpawner(), load: newLoad(lay.callerURL()), report: &Report{}}
	defer d.spawn.Close()
	defer d.stopAll()
	if err := d.play(ctx); err != nil {
		return nil, err
	}
	d.report.OK = len(d.report.faults) == 0
	if o.Keep && ctx.Err() == nil {
		if err := d.report.WriteTable(o.Progress); err != nil {
			return nil, err
		}
		d.layout.writeHints(o.Progress)
		<-ctx.Done()
	}
	return d.report, nil
}

// termLimit is how long a process may take to end on SIGTERM.
const termLimit = 5 * time.Second

type demo struct {
	layout *layout
	out    io.Writer
	spawn  *process.Spawner
	load   *load
	report *Report
	// first is until when the first certificate of each process was valid.
	first map[string]time.Time
}

// play runs every phase in order.
func (d *demo) play(ctx context.Context) error {
	began := time.Now()
	d.say("files are in %s", d.layout.dir)
	d.say("starting %d CAs, whose certificates live for %v, %d gateways, %d instances of %s and a caller in east",
		len(d.layout.cas), certificateOf, len(d.layout.gateways), len(d.layout.instances), service)
	for _, p := range d.layout.all() {
		if err := p.Start(d.spawn); err != nil {
			return err
		}
	}
	if err := d.converge(ctx); err != nil {
		return err
	}
	d.report.ConvergedMS = time.Since(began).Milliseconds()
	d.first = d.layout.certificates(ctx)

	sending, stop := context.WithCancel(ctx)
	var sender sync.WaitGroup
	var records []*record
	records = append(records, d.load.begin(phaseJoin))
	sender.Go(func() { d.load.run(sending) })
	err := d.phases(ctx, &records)
	d.load.stop()
	stop()
	sender.Wait()
	if err != nil {
		return err
	}
	for _, r := range records {
		d.report.add(r)
	}
	if steady := d.report.Phases[1]; steady.Served["east"] != steady.Requests-steady.Failed {
		d.report.fault("%s: not all requests were served in east", phaseSteady)
	}
	return nil
}

// phases injects one fault after the other while the load runs.
func (d *demo) phases(ctx context.Context, records *[]*record) error {
	l := d.layout
	east := l.instancesOf("east")
	gateway := l.gatewaysOf("east")[0]
	frozen := ""
	steps := []struct {
		name  string
		what  string
		fault func() error
	}{
		{phaseSteady, "nothing happens", func() error { return nil }},
		{phaseInstanceKilled, "kill -9 " + east[0].Name, func() error { return kill(east[0].Process) }},
		{phaseServiceDown, "kill -9 " + east[1].Name + ": none is left in east", func() error { return kill(east[1].Process) }},
		{phaseGatewayKilled, "kill -9 gateway " + gateway.Name, func() error { return kill(gateway.Process) }},
		{phaseClusterFrozen, "SIGSTOP to every process of the cluster that serves", func() error {
			frozen = d.serving((*records)[len(*records)-2])
			d.say("%-16s   … which is %s", "", frozen)
			return d.each(l.clusterOf(frozen), syscall.SIGSTOP)
		}},
		{phaseRecovered, "everything comes back", func() error {
			if err := d.each(l.clusterOf(frozen), syscall.SIGCONT); err != nil {
				return err
			}
			for _, p := range []*process.Process{gateway.Process, east[0].Process, east[1].Process} {
				if err := p.Start(d.spawn); err != nil {
					return err
				}
			}
			return nil
		}},
		{phaseRenewed, "the last certificates are renewed", func() error { return nil }},
	}
	if err := d.wait(ctx, phaseTime/2); err != nil {
		return err
	}
	for _, s := range steps {
		d.say("%-16s   %s", s.name, s.what)
		// The phase begins before its fault: what is on its way when the fault
		// strikes has to survive it.
		rec := d.load.begin(s.name)
		*records = append(*records, rec)
		if err := s.fault(); err != nil {
			return err
		}
		end := func(ctx context.Context, _ *record) error { return d.wait(ctx, phaseTime) }
		switch s.name {
		case phaseRecovered:
			end = d.comeHome
		case phaseRenewed:
			end = d.renewed
		}
		if err := end(ctx, rec); err != nil {
			return err
		}
		served, failed := d.load.servedSince(rec, rec.started)
		d.say("%-16s     %d requests failed; served: %s", "", failed, counts(served))
	}
	return nil
}

// comeHome waits until every answer comes from east again.
func (d *demo) comeHome(ctx context.Context, rec *record) error {
	deadline := time.Now().Add(recoverTimeout)
	for began := time.Now(); ; {
		if err := d.wait(ctx, homeTime/4); err != nil {
			return err
		}
		served, failed := d.load.servedSince(rec, time.Now().Add(-homeTime))
		if failed == 0 && len(served) == 1 && served["east"] > 0 && time.Since(began) > homeTime {
			return nil
		}
		if time.Now().After(deadline) {
			d.report.fault("%s: after %v requests are still served by %v", phaseRecovered, recoverTimeout, served)
			return nil
		}
	}
}

// renewed waits until every process has another certificate than its first.
func (d *demo) renewed(ctx context.Context, _ *record) error {
	for deadline := time.Now().Add(renewTimeout); ; {
		var old []string
		now := d.layout.certificates(ctx)
		for name, first := range d.first {
			if !now[name].After(first) {
				old = append(old, name)
			}
		}
		if len(old) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			slices.Sort(old)
			d.report.fault("%s: after %v there is no new certificate of %s", phaseRenewed, renewTimeout, strings.Join(old, ", "))
			return nil
		}
		if err := d.wait(ctx, homeTime/4); err != nil {
			return err
		}
	}
}

// serving returns the cluster that served the last second of rec.
func (d *demo) serving(rec *record) string {
	served, _ := d.load.servedSince(rec, time.Now().Add(-time.Second))
	best := "west"
	for _, c := range slices.Sorted(slices.Values(remoteClusters)) {
		if served[c] > served[best] {
			best = c
		}
	}
	return best
}

func (d *demo) each(ps []*process.Process, sig syscall.Signal) error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.Signal(sig))
	}
	return errors.Join(errs...)
}

// converge waits until every gateway sees every cluster's instances and the
// caller gets an answer from its own cluster.
func (d *demo) converge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, convergeTimeout)
	defer cancel()
	client := &http.Client{Timeout: pollTimeout}
	defer client.CloseIdleConnections()
	shown, last := "", time.Time{}
	for {
		missing := d.layout.missing(ctx)
		if len(missing) == 0 {
			cluster, _, err := ask(ctx, client, d.layout.callerURL())
			if err == nil && cluster == "east" {
				return nil
			}
			missing = []string{fmt.Sprintf("the caller in east (%v)", err)}
		}
		if m := strings.Join(missing, "; "); m != shown && time.Since(last) > sayEvery && ctx.Err() == nil {
			d.say("%-16s   waiting for %s", phaseJoin, m)
			shown, last = m, time.Now()
		}
		for _, p := range d.layout.all() {
			if err := p.Err(); err != nil {
				return err
			}
		}
		if err := d.wait(ctx, pollEvery); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("the clusters did not find each other within %v: still waiting for %s; the logs are in %s",
					convergeTimeout, shown, d.layout.dir)
			}
			return err
		}
	}
}

// kill ends a process that runs as a crash would.
func kill(p *process.Process) error {
	if !p.Running() {
		return fmt.Errorf("%s does not run: see %s", p.Name, p.Log)
	}
	p.Kill()
	return nil
}

func (d *demo) wait(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}

func (d *demo) stopAll() {
	var wg sync.WaitGroup
	for _, p := range d.layout.all() {
		wg.Go(func() {
			_ = p.Signal(syscall.SIGCONT)         // it may be frozen
			_ = p.End(syscall.SIGTERM, termLimit) // what does not end is killed
		})
	}
	wg.Wait()
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }
