package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report prints the verdict and returns whether it is good.
func report(out io.Writer, o options, j *journal, samples []held) bool {
	v := j.judge()
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "seed %d, %v of faults\n\n", o.seed, o.length)

	fmt.Fprintf(t, "requests\t%s\ttold\trepeated\t\n", strings.Join([]string{ok, failed, cut, eof, hang, wrong, absent}, "\t"))
	for _, kind := range kinds {
		fmt.Fprintf(t, "%s\t", kind)
		for _, outcome := range []string{ok, failed, cut, eof, hang, wrong, absent} {
			fmt.Fprintf(t, "%d\t", v.count[kind][outcome])
		}
		fmt.Fprintf(t, "%d\t%d\t\n", v.told[kind], v.repeated[kind])
	}
	_ = t.Flush()

	gapKinds := []string{get, shared, post, put, call, tcp, lookup}
	fmt.Fprintf(t, "\nfault\ttimes\ttold\tlongest gap: %s\tsettled after\t\n", strings.Join(gapKinds, "\t"))
	for _, kind := range slices.Sorted(maps.Keys(v.happened)) {
		fmt.Fprintf(t, "%s\t%d\t%d\t", kind, v.happened[kind], v.toldOf[kind])
		for _, g := range gapKinds {
			fmt.Fprintf(t, "%v\t", v.gaps[kind][g].Round(10*time.Millisecond))
		}
		fmt.Fprintf(t, "%v\t\n", v.settle[kind].Round(10*time.Millisecond))
	}
	_ = t.Flush()

	if !o.judgesGrowth() {
		fmt.Fprintf(out, "\ngrowth is not judged: it takes -cool-down %v\n", coolDown)
	}
	fmt.Fprintf(t, "\nprocess\tMiB\t\tdescriptors\t\tgoroutines\t\tstreams\t\t\t\n")
	good := true
	for _, h := range samples {
		note := ""
		if h.spared {
			note = "never ended"
		}
		if what := grown(h.before, h.after); what != nil && o.judgesGrowth() {
			good = false
			note = "GROWN: " + strings.Join(what, ", ")
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", h.name, h.before.rss>>10, h.after.rss>>10,
			h.before.descriptors, h.after.descriptors, h.before.goroutines, h.after.goroutines, h.before.streams, h.after.streams, note)
	}
	_ = t.Flush()

	const most = 30
	fmt.Fprintf(out, "\n%d failures\n", len(v.failures))
	for i, f := range v.failures {
		if i == most {
			fmt.Fprintf(out, "and %d more\n", len(v.failures)-most)
			break
		}
		fmt.Fprintf(out, "\n%s %s\n", f.at.Format(stamp), f.what)
		if i == 0 || f.at.Sub(v.failures[i-1].at) > 3*time.Second {
			for _, line := range j.around(f.at, 3*time.Second) {
				fmt.Fprintln(out, "    ", line)
			}
		}
	}
	return good && len(v.failures) == 0
}
