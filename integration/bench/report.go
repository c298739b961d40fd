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

func (s *sample) rate() float64 { return float64(s.Requests) / s.Duration.Seconds() }

// cpuPerRequest is in microseconds, of all that counts.
func (s *sample) cpuPerRequest() float64 {
	var total time.Duration
	for _, c := range s.cpu {
		total += c
	}
	return s.perRequest(total)
}

func (s *sample) perRequest(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(s.Requests)
}

// core is how many cores that used.
func (s *sample) core() float64 { return s.cpuPerRequest() * s.rate() / 1e6 }

// report is what a run found; its JSON form is for programs that keep history.
type report struct {
	Machine  string       `json:"machine"`
	Programs []string     `json:"programs"`
	Rounds   int          `json:"rounds"`
	Seconds  float64      `json:"seconds"`
	Pinned   bool         `json:"pinned"` // load and proxies each had a core
	Flows    []flowReport `json:"flows"`
}

type flowReport struct {
	Name        string            `json:"name"`
	Title       string            `json:"title"`
	Connections int               `json:"connections"`
	Streams     int               `json:"streams"`             // on each of them at a time
	HalfRate    float64           `json:"half_rate,omitempty"` // requests per second at half load
	Contenders  []contenderReport `json:"contenders"`
	Calm        int               `json:"calm_rounds"` // undisturbed by other programs; when there are any, only they count
	Other       float64           `json:"other_cores"` // that other programs kept busy: median over the rounds that count
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
	HalfP50   float64         `json:"half_p50_ms,omitempty"` // at half load
	HalfP99   float64         `json:"half_p99_ms,omitempty"`
	HalfCPU   float64         `json:"half_cpu_us,omitempty"`
	RSS       float64         `json:"rss_mib"`
	Conns     int             `json:"hop_connections,omitempty"` // between the two ends of the TLS
	Idle      []idleReport    `json:"idle,omitempty"`
	Core      float64         `json:"core"` // how many were used: of the proxies' alone, or of all in flows that count the load
	Processes []processReport `json:"processes"`
}

// idleReport says what a connection costs on which nothing is asked.
type idleReport struct {
	Connections int     `json:"connections"`
	KiB         float64 `json:"kib_each"`
	RSS         float64 `json:"rss_mib"` // of the path, with all of them
}

type processReport struct {
	Name string  `json:"name"`
	CPU  float64 `json:"cpu_us"`
}

func newReport(ctx context.Context, opts options, t *tools, c cpus) *report {
	return &report{Machine: machine(), Programs: append(t.versions(ctx), runtime.Version()),
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
	f := flowReport{Name: res.flow.name, Title: res.flow.title, HalfRate: res.rate,
		Connections: res.flow.traffic.connections, Streams: res.flow.traffic.streams}
	if res.flow.idle {
		r.addIdle(f, res)
		return
	}
	rounds := res.calm()
	f.Calm = len(rounds)
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
			P50:       over(func(n int) float64 { return ms(ss[n].P50) }),
			P99:       over(func(n int) float64 { return ms(ss[n].P99) }),
			RSS:       over(func(n int) float64 { return float64(ss[n].rss) / (1 << 20) }),
			Core:      over(func(n int) float64 { return ss[n].core() }),
			Conns:     ss[len(ss)-1].conns,
		}
		if res.half != nil {
			half := func(figure func(s *sample) float64) float64 {
				var all []float64
				for n := range res.half[i] {
					all = append(all, figure(&res.half[i][n]))
				}
				return median(all)
			}
			cr.HalfP50 = half(func(s *sample) float64 { return ms(s.P50) })
			cr.HalfP99 = half(func(s *sample) float64 { return ms(s.P99) })
			cr.HalfCPU = half((*sample).cpuPerRequest)
		}
		for j, name := range c.counted() {
			cr.Processes = append(cr.Processes, processReport{name,
				over(func(n int) float64 { return ss[n].perRequest(ss[n].cpu[j]) })})
		}
		f.Contenders = append(f.Contenders, cr)
	}
	r.Flows = append(r.Flows, f)
}

// addIdle adds a flow of idle connections.
func (r *report) addIdle(f flowReport, res *result) {
	for i, c := range res.flow.contenders {
		cr := contenderReport{Name: c.name}
		for _, m := range res.idle[i] {
			cr.Idle = append(cr.Idle, idleReport{m.connections, m.each() / (1 << 10), float64(m.after) / (1 << 20)})
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
		if f.Contenders[0].Idle != nil {
			f.formatIdle(w)
			continue
		}
		fmt.Fprintf(w, "%-13s %8s %9s %11s %9s %8s %8s %8s %8s %8s %6s %5s\n", "",
			"req/s", "/ "+base, "CPU µs/req", "/ "+base, "p50 ms", "p99 ms", "half p50", "half p99", "RSS MiB", "core", "conns")
		for _, c := range f.Contenders {
			fmt.Fprintf(w, "%-13s %8.0f %9.2f %11.1f %9.2f %8.3f %8.3f %8.3f %8.3f %8.0f %6.2f %5d\n",
				c.Name, c.Rate, c.RateRatio, c.CPU, c.CPURatio, c.P50, c.P99, c.HalfP50, c.HalfP99, c.RSS, c.Core, c.Conns)
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
		fmt.Fprintf(w, "%d connections with %d requests in flight on each", f.Connections, f.Streams)
		if f.HalfRate > 0 {
			fmt.Fprintf(w, "; half: %.0f req/s to everybody", f.HalfRate)
		}
		fmt.Fprintln(w, ".")
		switch {
		case f.Calm == 0:
			fmt.Fprintf(w, "Other programs kept %.2f cores busy: read req/s and latencies as rough.\n", f.Other)
		case f.Calm < r.Rounds:
			fmt.Fprintf(w, "From %d rounds: other programs disturbed the rest.\n", f.Calm)
		}
	}
	fmt.Fprintf(w, "\nMedians of rounds: %d of %g s; answers of %d bytes. %s.\n%s.\n", r.Rounds, r.Seconds,
		bodySize, strings.Join(r.Programs, ", "), r.Machine)
	if !r.Pinned {
		fmt.Fprintln(w, "Load and proxies shared one core: req/s include the load's cost; CPU per request does not.")
	}
}

func (f flowReport) formatIdle(w io.Writer) {
	for _, c := range f.Contenders {
		fmt.Fprintf(w, "%-13s", c.Name)
		for _, m := range c.Idle {
			fmt.Fprintf(w, "  %d connections: %.1f KiB each, RSS %.0f MiB", m.Connections, m.KiB, m.RSS)
		}
		fmt.Fprintln(w)
	}
}
