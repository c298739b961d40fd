package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// phaseOf makes a phase whose answers arrived at the given milliseconds.
func phaseOf(name string, length int, at ...int) *record {
	began := time.Unix(1000, 0)
	r := &record{name: name, started: began, ended: began.Add(time.Duration(length) * time.Millisecond)}
	for _, ms := range at {
		r.answers = append(r.answers, answer{at: began.Add(time.Duration(ms) * time.Millisecond), took: time.Millisecond, cluster: "east"})
	}
	return r
}

func TestTheGapIsTheLongestTimeWithoutAnAnswer(t *testing.T) {
	for _, c := range []struct {
		r    *record
		want time.Duration
	}{
		{phaseOf("", 100), 100 * time.Millisecond},                 // nobody answered at all
		{phaseOf("", 100, 10, 20, 95), 75 * time.Millisecond},      // between answers
		{phaseOf("", 100, 60, 95, 70), 60 * time.Millisecond},      // before the first
		{phaseOf("", 100, 10, 20), 80 * time.Millisecond},          // after the last
		{phaseOf("", 100, 10, 50, 90, 400), 40 * time.Millisecond}, // what came after the phase does not count
	} {
		if got := c.r.gap(); got != c.want {
			t.Errorf("gap of %v = %v, want %v", c.r.answers, got, c.want)
		}
	}
}

func TestAReportNamesEveryBrokenPromise(t *testing.T) {
	var r Report
	lost := phaseOf(phaseSteady, 100, 10, 20)
	lost.answers = append(lost.answers, answer{at: lost.started, err: errors.New("503 nobody")})
	r.add(lost)
	r.add(phaseOf(phaseClusterFrozen, 1600, 10))
	r.add(phaseOf(phaseGatewayKilled, 200))
	for _, want := range []string{"steady: 1 of 3 requests failed, the first with: 503 nobody", "cluster-frozen: 1590 ms", "gateway-killed: no request"} {
		if !strings.Contains(strings.Join(r.faults, "\n"), want) {
			t.Errorf("faults lack %q: %q", want, r.faults)
		}
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "not ok") {
		t.Errorf("the table does not say that it is not ok: %v\n%s", err, table.String())
	}
}

func TestTheJSONIsTheDocumentedOne(t *testing.T) {
	r := Report{OK: true, ConvergedMS: 1234}
	r.add(phaseOf(phaseJoin, 100, 10))
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	phase := got["phases"].([]any)[0].(map[string]any)
	for _, key := range []string{"name", "requests", "failed", "gap_ms", "served", "p50_ms", "p99_ms"} {
		if _, ok := phase[key]; !ok {
			t.Errorf("phases lack %q", key)
		}
	}
	if len(got) != 3 || got["ok"] != true || got["converged_ms"] != 1234.0 {
		t.Errorf("got %v", got)
	}
}
