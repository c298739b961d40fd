package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// table writes columns for people. What is shown was said by other hosts in
// part: no cell can move the cursor, begin a line of its own, or be endless.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) *table {
	return &table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
}

// line writes text that is no part of the columns.
func (t *table) line(text string) { fmt.Fprintln(t.w, printable(text)) }

// head begins new columns behind an empty line.
func (t *table) head(names ...string) {
	_ = t.w.Flush() // its error comes again
	fmt.Fprintln(t.w)
	fmt.Fprintln(t.w, strings.Join(names, "\t"))
}

// row writes one row. Columns that are left out are empty.
func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = printable(fmt.Sprint(c))
	}
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// maxCell bounds what one cell or line shows, in bytes.
const maxCell = 1024

// printable returns s with everything that is not to be seen written as Go does.
func printable(s string) string {
	rest := ""
	if len(s) > maxCell {
		s, rest = strings.ToValidUTF8(s[:maxCell], ""), "…"
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return s + rest
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String() + rest
}
