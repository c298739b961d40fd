package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a document.
type Fault struct {
	Source  string `json:"source"`         // file name, environment variable or flag
	Line    int    `json:"line,omitempty"` // from 1; 0: the source has no lines
	Key     string `json:"key,omitempty"`  // path, such as upstreams[1].listen; empty: the document itself
	Problem string `json:"problem"`        // what is wrong and what to write instead
}

// Error returns "source:line: key: problem".
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Source)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key)
		b.WriteString(": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// Faults are everything that is wrong, as one error.
type Faults []Fault

// Error returns one line per fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes errors.As find a single Fault.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

// Err returns the faults in order of source and line, each once, or nil when
// there are none.
func (fs Faults) Err() error {
	if len(fs) == 0 {
		return nil
	}
	fs = slices.Clone(fs)
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Line, b.Line))
	})
	fs = slices.Compact(fs)
	if n := len(fs); n > maxFaults {
		fs = append(fs[:maxFaults:maxFaults], Fault{
			Source:  fs[maxFaults].Source,
			Problem: fmt.Sprintf("%d more faults are not shown", n-maxFaults),
		})
	}
	return fs
}
