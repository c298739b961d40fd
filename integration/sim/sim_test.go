package sim

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	rewrite = flag.Bool("rewrite", false, "record what the scripts print instead of comparing")
	verbose = flag.Bool("log", false, "print what the gateways log")
)

func TestScriptsPrintWhatWasRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			recorded, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(recorded)) })
			switch {
			case *rewrite:
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			case got != string(recorded):
				t.Errorf("%s prints:\n%s\n(run with -rewrite to record it)", file, got)
			}
		})
	}
}

// play runs a script and returns it with what its commands print.
func play(t *testing.T, script string) string {
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	w := newWorld(t, log)
	defer w.close()
	var out strings.Builder
	printed := false // between "----" and the next empty line stands old output
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "----":
			printed = true
			continue
		case printed && line != "":
			continue
		case line == "" || strings.HasPrefix(line, "#"):
			printed = false
			out.WriteString(line + "\n")
			continue
		}
		out.WriteString(line + "\n")
		answer, err := w.run(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if answer != "" {
			out.WriteString("----\n" + answer + "\n")
		}
	}
	return out.String()
}
