package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/isthmus-mesh/isthmus/integration/bench/load"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

func TestEveryContenderServesEveryFlow(t *testing.T) {
	opts := smokeOptions(t)
	opts.isthmus = isthmus(t)
	var log bytes.Buffer
	r, err := run(t.Context(), opts, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	processes := map[string]int{}
	for _, f := range r.Flows {
		for _, c := range f.Contenders {
			if f.Name == "idle" || f.Name == "idle-tcp" {
				if len(c.Idle) != 1 || c.Idle[0].Connections != smokeIdle || c.Idle[0].RSS <= 0 {
					t.Errorf("%s, %s: %+v", f.Name, c.Name, c)
				}
				continue
			}
			if c.Rate <= 0 || c.CPU <= 0 || c.P50 <= 0 || c.P99 < c.P50 || c.RSS <= 0 {
				t.Errorf("%s, %s: %+v", f.Name, c.Name, c)
			}
			processes[f.Name+" "+c.Name] = len(c.Processes)
		}
	}
	want := map[string]int{"pair-tcp nginx": 2, "pair-http nginx": 2, "path-http nginx": 4, "path-http isthmus": 4, "path-grpc isthmus": 4}
	one, two := []string{"h1", "h2", "grpc-unary"}, []string{"pair-http", "pair-grpc", "pair-tcp"}
	for _, flow := range one {
		want[flow+" nginx"], want[flow+" isthmus"] = 1, 1
	}
	for _, flow := range two {
		want[flow+" isthmus"] = 2
	}
	if _, err := lookPath("haproxy"); err != nil {
		t.Log("without haproxy, which is not installed")
	} else {
		for _, flow := range one {
			want[flow+" haproxy"] = 1
		}
		for _, flow := range two {
			want[flow+" haproxy"] = 2
		}
		want["pair-http haproxy h2"] = 2
	}
	if strings.Contains(log.String(), "envoy is not installed") {
		t.Log("without envoy, which is not installed")
	} else {
		for _, flow := range one {
			want[flow+" envoy"] = 1
		}
		for _, flow := range two {
			want[flow+" envoy"] = 2
		}
		want["pair-http envoy h2"], want["pair-tcp envoy h2"] = 2, 2
		want["path-http envoy"], want["path-http envoy h2"], want["path-grpc envoy"] = 4, 4, 4
	}
	if canCaptureHere(t) {
		for _, flow := range []string{"connect", "capture"} {
			want[flow+" direct"], want[flow+" explicit"] = 2, 3
			for _, way := range captures {
				want[flow+" "+way.name] = 3
			}
		}
		for _, flow := range []string{"beside", "beside-keep"} {
			for _, way := range append([]way{direct}, captures...) {
				want[flow+" "+way.name] = 2
			}
		}
	}
	if d := cmp.Diff(want, processes); d != "" {
		t.Error(d)
	}
	var out bytes.Buffer
	if err := r.writeTable(&out); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
	out.Reset()
	if err := r.writeJSON(&out); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("not JSON (%v): %s", err, out.String())
	}
	nothingRuns(t)
	nothingCaptures(t)
}

// cancelAt ends a run when it says something.
type cancelAt struct {
	what   string
	cancel context.CancelFunc
}

func (c cancelAt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.what) {
		c.cancel()
	}
	return len(b), nil
}

func TestAnInterruptedRunLeavesNothingBehind(t *testing.T) {
	opts := smokeOptions(t)
	opts.flows, opts.isthmus = []string{"h1"}, "/bin/true" // only asked for certificates before the run is interrupted
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := run(ctx, opts, cancelAt{"h1: start nginx", cancel}); err == nil {
		t.Error("a run that was interrupted gave a report")
	}
	nothingRuns(t)
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

// nothingRuns checks that this process has no children.
func nothingRuns(t *testing.T) {
	t.Helper()
	children, err := childrenOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range children {
		b, _ := os.ReadFile(procFile(pid, "cmdline"))
		t.Errorf("still running: %d %q", pid, b)
	}
}

func TestAKilledBenchmarkTakesItsProcessesWithIt(t *testing.T) {
	runner := exec.Command(os.Args[0])
	runner.Env = append(os.Environ(), asRunner+"="+t.TempDir())
	out, err := runner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscan(out, &pid)
	_ = runner.Process.Kill()
	_ = runner.Wait()
	if scanErr != nil {
		t.Fatal(scanErr)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(procFile(pid, "stat"))
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(b), ") Z ") {
			return // gone, or dead and nobody waits for it
		}
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("what the benchmark started outlived it")
		}
	}
}

func TestCPUTimeCountsChildrenAndMindsNoName(t *testing.T) {
	// utime 100, stime 20, cutime 3, cstime 4 of a program called ") 1 (".
	stat := "42 () 1 () S 1 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 9 0 0\n"
	got, err := parseStat([]byte(stat))
	if want := 127 * tick; err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "42 (a) S 1", strings.Replace(stat, " 100 ", " x ", 1)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
}

func TestRatiosAreThoseOfTheSameRound(t *testing.T) {
	sampleOf := func(requests uint64, cpu time.Duration) sample {
		return sample{loadSample: loadSample{Result: load.Result{Requests: requests, Duration: time.Second}}, cpu: []time.Duration{cpu / 4, cpu * 3 / 4}}
	}
	path := []*process.Process{{Name: "a"}, {Name: "b"}}
	r := &report{}
	r.add(&result{
		flow: &flow{name: "path", contenders: []*contender{{name: "nginx", path: path}, {name: "isthmus", path: path}}},
		samples: [][]sample{ // the machine is at half speed in the second round
			{sampleOf(1000, time.Second), sampleOf(500, time.Second), sampleOf(1000, time.Second)},
			{sampleOf(2000, time.Second), sampleOf(1000, time.Second), sampleOf(2000, time.Second)},
		},
	})
	c := r.Flows[0].Contenders[1]
	if c.Rate != 2000 || c.RateRatio != 2 || c.CPU != 500 || c.CPURatio != 0.5 || c.Core != 1 {
		t.Errorf("%+v", c)
	}
	if d := cmp.Diff([]processReport{{"a", 125}, {"b", 375}}, c.Processes); d != "" {
		t.Error(d)
	}
}

func TestRoundsThatOtherProgramsDisturbedDoNotCountWhenThereAreOthers(t *testing.T) {
	for name, test := range map[string]struct {
		others []float64 // of the second contender, per round
		calm   int
		rate   float64
	}{
		"all calm":      {[]float64{0, 0.1, 0.2}, 3, 200},
		"one disturbed": {[]float64{0, 0.1, 0.9}, 2, 150},
		"all disturbed": {[]float64{0.9, 0.8, 0.7}, 0, 200},
	} {
		t.Run(name, func(t *testing.T) {
			ss := make([][]sample, 2)
			for n, other := range test.others {
				s := sample{loadSample: loadSample{Result: load.Result{Requests: uint64(100 * (n + 1)), Duration: time.Second}}}
				ss[0] = append(ss[0], s)
				s.other = other
				ss[1] = append(ss[1], s)
			}
			r := &report{Rounds: len(test.others)}
			r.add(&result{flow: &flow{contenders: []*contender{{name: "nginx"}, {name: "isthmus"}}}, samples: ss})
			if f := r.Flows[0]; f.Calm != test.calm || f.Contenders[0].Rate != test.rate {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestTheCommandLineSaysWhatIsWrong(t *testing.T) {
	for args, says := range map[string]string{
		"-flows h1,paht":     `"paht"`,
		"-flows h1,h1":       "twice",
		"-rounds 0":          "-rounds 0",
		"-seconds 3600":      "-seconds 3600",
		"-o yaml":            "table or json",
		"everything":         `"everything"`,
		"-rounds " + "x":     "-rounds",
		"-flows ":            `""`,
		"-unknown":           "-unknown",
		"-smoke -rounds 101": "",
	} {
		_, err := parseFlags(strings.Split(args, " "), io.Discard)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", args, err, says)
		}
	}
}
