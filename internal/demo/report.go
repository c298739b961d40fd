package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the demo's result; its JSON form is what `isthmus demo -o json` prints.
type Report struct {
	OK          bool    `json:"ok"`
	ConvergedMS int64   `json:"converged_ms"` // from the first process started to all clusters serving
	Phases      []Phase `json:"phases"`

	faults []string // why OK is false, one line each
}

// Phase is what a caller noticed during one phase. Times are in milliseconds.
type Phase struct {
	Name     string         `json:"name"`
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	GapMS    float64        `json:"gap_ms"` // longest time without an answer
	Served   map[string]int `json:"served"` // answers by cluster
	P50MS    float64        `json:"p50_ms"`
	P99MS    float64        `json:"p99_ms"`
}

// gapLimits are the promises that the demo holds the mesh to, in milliseconds.
var gapLimits = map[string]float64{
	phaseInstanceKilled: 300,
	phaseServiceDown:    300,
	phaseGatewayKilled:  300,
	phaseClusterFrozen:  1500,
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }

// add appends a finished phase and judges it. Every answer must be in.
func (r *Report) add(rec *record) {
	p := Phase{
		Name: rec.name, Requests: len(rec.answers), Served: map[string]int{}, GapMS: milliseconds(rec.gap()),
		P50MS: milliseconds(rec.percentile(0.50)), P99MS: milliseconds(rec.percentile(0.99)),
	}
	var first error
	for _, a := range rec.answers {
		if a.err != nil {
			p.Failed++
			if first == nil {
				first = a.err
			}
			continue
		}
		p.Served[a.cluster]++
	}
	r.Phases = append(r.Phases, p)
	if p.Failed > 0 {
		r.fault("%s: %d of %d requests failed, the first with: %v", p.Name, p.Failed, p.Requests, first)
	}
	if p.Requests == 0 {
		r.fault("%s: no request was sent", p.Name)
	}
	if limit, ok := gapLimits[p.Name]; ok && p.GapMS > limit {
		r.fault("%s: %.0f ms without an answer, more than %.0f", p.Name, p.GapMS, limit)
	}
}

func (r *Report) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// counts shows answers by cluster.
func counts(served map[string]int) string {
	var parts []string
	for _, c := range slices.Sorted(maps.Keys(served)) {
		parts = append(parts, fmt.Sprintf("%s %d", c, served[c]))
	}
	return strings.Join(parts, ", ")
}

// WriteJSON writes the report as one line of JSON.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "PHASE\tREQUESTS\tFAILED\tLONGEST GAP\tP50\tP99\tSERVED BY")
	for _, p := range r.Phases {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f ms\t%.1f ms\t%.1f ms\t%s\n",
			p.Name, p.Requests, p.Failed, p.GapMS, p.P50MS, p.P99MS, counts(p.Served))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.OK {
		_, err := fmt.Fprintf(w, "\nok: joined in %.1f s, no request lost\n", float64(r.ConvergedMS)/1000)
		return err
	}
	_, err := fmt.Fprintf(w, "\nnot ok:\n  %s\n", strings.Join(r.faults, "\n  "))
	return err
}
