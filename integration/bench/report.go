package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (s *sample) rate() float64 { return float64(s.requests) / s.duration.Seconds() }

// cpuPerRequest is in microseconds, of all that counts.
func (s *sample) cpuPerRequest() float64 {
	var total time.Duration
	for _, c := range s.cpu {
		total += c
	}
	return s.perRequest(total)
}

func (s *sample) perRequest(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(s.requests)
}

// core is how many cores that used.
func (s *sample) core() float64 { return s.cpuPerRequest() * s.rate() / 1e6 }

// report is what a run found; its JSON form is for programs that keep history.
type report struct {
	Machine     string       `json:"machine"`
	Programs    []string     `json:"programs"`
	Connections int          `json:"connections"`
	Rounds      int          `json:"rounds"`
	Seconds     float64      `json:"seconds"`
	Pinned      bool         `json:"pinned"` // load and proxies each had a core
	Flows       []flowReport `json:"flows"`
}

type flowReport struct {
	Name       string            `json:"name"`
	Title      string            `json:"title"`
	Contenders []contenderReport `json:"contenders"`
	Calm       int               `json:"calm_rounds"` // undisturbed by other programs; when there are any, only they count
	Other      float64           `json:"other_cores"` // that other programs kept busy: median over the rounds that count
}

// contenderReport holds medians over the rounds. The ratios are medians of
// ratios within a round, to the first contender.
type contenderReport struct {
	Name      string          `json:"name"`
	Rate      float64         `json:"requests_per_s"`
	RateRatio float64         `json:"requests_ratio"`
	CPU       float64         `json:"cpu_us"`
	CPURatio  float64         `json:"cpu_ratio"`
	P50       float64         `json:"p50_ms"`
	P99       float64         `json:"p99_ms"`
	RSS       float64         `json:"rss_mib"`
	Core      float64         `json:"core"` // how many were used: of the proxies' alone, or of all in flows that count the load
	Processes []processReport `json:"processes"`
}

type processReport struct {
	Name string  `json:"name"`
	CPU  float64 `json:"cpu_us"`
}

func newReport(ctx context.Context, opts options, t *tools, c cpus) *report {
	return &report{Machine: machine(), Programs: append(t.versions(ctx), runtime.Version()), Connections: connections,
		Rounds: opts.rounds, Seconds: opts.seconds.Seconds(), Pinned: c.proxies != anyCPU}
}

// machine says what this ran on.
func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.Trim(line, " \t:")
		}
	}
	kernel := "unknown"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d cores, Linux %s", model, runtime.NumCPU(), kernel)
}

// add adds a flow that was measured.
func (r *report) add(res *result) {
	rounds := res.calm()
	f := flowReport{Name: res.flow.name, Title: res.flow.title, Calm: len(rounds)}
	if len(rounds) == 0 {
		for n := range res.samples[0] {
			rounds = append(rounds, n)
		}
	}
	over := func(figure func(n int) float64) float64 {
		var all []float64
		for _, n := range rounds {
			all = append(all, figure(n))
		}
		return median(all)
	}
	f.Other = over(res.other)
	base := res.samples[0]
	for i, c := range res.flow.contenders {
		ss := res.samples[i]
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		cr := contenderReport{
			Name:      c.name,
			Rate:      over(func(n int) float64 { return ss[n].rate() }),
			RateRatio: over(func(n int) float64 { return ss[n].rate() / base[n].rate() }),
			CPU:       over(func(n int) float64 { return ss[n].cpuPerRequest() }),
			CPURatio:  over(func(n int) float64 { return ss[n].cpuPerRequest() / base[n].cpuPerRequest() }),
			P50:       over(func(n int) float64 { return ms(ss[n].p50) }),
			P99:       over(func(n int) float64 { return ms(ss[n].p99) }),
			RSS:       over(func(n int) float64 { return float64(ss[n].rss) / (1 << 20) }),
			Core:      over(func(n int) float64 { return ss[n].core() }),
		}
		for j, name := range c.counted() {
			cr.Processes = append(cr.Processes, processReport{name,
				over(func(n int) float64 { return ss[n].perRequest(ss[n].cpu[j]) })})
		}
		f.Contenders = append(f.Contenders, cr)
	}
	r.Flows = append(r.Flows, f)
}

// other is what other programs used during a round, at the worst.
func (r *result) other(round int) float64 {
	var worst float64
	for _, ss := range r.samples {
		worst = max(worst, ss[round].other)
	}
	return worst
}

// calm returns the rounds that other programs left alone.
func (r *result) calm() []int {
	var calm []int
	for n := range r.samples[0] {
		if r.other(n) <= busyElsewhere {
			calm = append(calm, n)
		}
	}
	return calm
}

// median of at least one figure.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	half := len(v) / 2
	if len(v)%2 == 1 {
		return v[half]
	}
	return (v[half-1] + v[half]) / 2
}

// writeJSON writes the report for programs.
func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeTable writes the report for people.
func (r *report) writeTable(w io.Writer) error {
	var b strings.Builder
	r.format(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) format(w io.Writer) {
	for _, f := range r.Flows {
		base := f.Contenders[0].Name
		fmt.Fprintf(w, "\n%s: %s\n", f.Name, f.Title)
		fmt.Fprintf(w, "%-13s %8s %8s %11s %8s %8s %8s %8s %6s\n", "",
			"req/s", "/ "+base, "CPU µs/req", "/ "+base, "p50 ms", "p99 ms", "RSS MiB", "core")
		for _, c := range f.Contenders {
			fmt.Fprintf(w, "%-13s %8.0f %8.2f %11.1f %8.2f %8.3f %8.3f %8.0f %6.2f\n",
				c.Name, c.Rate, c.RateRatio, c.CPU, c.CPURatio, c.P50, c.P99, c.RSS, c.Core)
		}
		for _, c := range f.Contenders {
			if len(c.Processes) < 2 {
				continue
			}
			var parts []string
			for _, p := range c.Processes {
				parts = append(parts, fmt.Sprintf("%s %.1f", p.Name, p.CPU))
			}
			fmt.Fprintf(w, "%s, CPU µs/req by process: %s\n", c.Name, strings.Join(parts, " + "))
		}
		switch {
		case f.Calm == 0:
			fmt.Fprintf(w, "Other programs kept %.2f cores busy: read req/s and latencies as rough.\n", f.Other)
		case f.Calm < r.Rounds:
			fmt.Fprintf(w, "From %d rounds: other programs disturbed the rest.\n", f.Calm)
		}
	}
	fmt.Fprintf(w, "\nMedians of rounds: %d of %g s; %d connections, answers of %d bytes. %s.\n%s.\n", r.Rounds, r.Seconds,
		r.Connections, bodySize, strings.Join(r.Programs, ", "), r.Machine)
	if !r.Pinned {
		fmt.Fprintln(w, "Load and proxies shared one core: req/s include the load's cost; CPU per request does not.")
	}
}
