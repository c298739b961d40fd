package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// output is the -o flag of every command that shows something.
type output string

const (
	outputTable output = "table"
	outputJSON  output = "json"
)

// flag adds -o to cmd.
func (o *output) flag(cmd *cobra.Command) {
	*o = outputTable
	cmd.Flags().VarP(o, "output", "o", "table or json")
}

// String, Set and Type make an output a flag value.
func (o *output) String() string { return string(*o) }

// Set reads "table" or "json".
func (o *output) Set(s string) error {
	switch v := output(s); v {
	case outputTable, outputJSON:
		*o = v
		return nil
	}
	return fmt.Errorf("write table or json")
}

// Type is what --help shows as the flag's value.
func (o *output) Type() string { return "format" }

func (o *output) json() bool { return *o == outputJSON }

// writeJSON writes v, indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
