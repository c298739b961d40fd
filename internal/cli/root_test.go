package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func run(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = Main(args, &b, &b)
	return code, b.String()
}

func TestTheProgramSaysWhichBuildItIs(t *testing.T) {
	if code, out := run("--version"); code != 0 || !strings.HasPrefix(out, "isthmus ") || !strings.Contains(out, ", go1.") {
		t.Errorf("%d: %s", code, out)
	}
}

func TestTheShellIsToldTheValuesOfFlags(t *testing.T) {
	if _, out := run("--help"); !strings.Contains(out, "completion ") {
		t.Errorf("completion is not to be seen:\n%s", out)
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"pki", "init", "--trust-domain", "a.example", "-d", dir}, {"pki", "cluster", "east", "-d", dir}} {
		if code, out := run(args...); code != 0 {
			t.Fatal(out)
		}
	}
	for args, want := range map[string][]string{
		"status -o":                            {"table", "json"},
		"check --role":                         {"gateway", "sidecar"},
		"sidecar --interception-mode":          {"explicit", "auto", "ebpf", "nftables"},
		"gateway --log-level":                  {"debug", "info", "warn", "error"},
		"gateway --log-format":                 {"text", "json"},
		"status --admin":                       {"127.0.0.1:15000", "127.0.0.1:15020"},
		"gateway -c":                           {"yaml"},
		"pki gateway -d " + dir + " --cluster": {"east"},
	} {
		_, out := run(append(append([]string{"__complete"}, strings.Fields(args)...), "")...)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %s in:\n%s", args, w, out)
			}
		}
	}
}

func TestTheIdentityLineOfPKIIsRightInAnyFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, args := range []string{"pki init --trust-domain a.example", "pki cluster east", "pki gateway --cluster east east-1 -o east/pki/gateway"} {
		code, out := run(strings.Fields(args)...)
		if code != 0 {
			t.Fatal(out)
		}
		if strings.Contains(args, "-o") && !strings.Contains(out, "identity: {dir: "+filepath.Join(dir, "east/pki/gateway")+"}") {
			t.Errorf("%s", out)
		}
	}
}
