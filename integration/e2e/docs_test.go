package e2e

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

const repository = "../.."

func TestTheProgramIsStatic(t *testing.T) {
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) > 0 || f.Section(".interp") != nil {
		t.Errorf("it needs %v, %v: an image from scratch has nothing", libraries, err)
	}
}

func TestEveryPlaceThatBuildsForUseBuildsStatically(t *testing.T) {
	build := regexp.MustCompile(`go build .*`)
	found := 0
	for _, root := range []string{"README.md", "CONTRIBUTING.md", "configs", "docs", "scripts"} {
		err := filepath.WalkDir(filepath.Join(repository, root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			for line := range strings.Lines(string(b)) {
				if build.MatchString(line) {
					found++
					if !strings.Contains(line, "CGO_ENABLED=0 go build") {
						t.Errorf("%s builds for use without CGO_ENABLED=0: %s", path, line)
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("nothing says how it is built")
	}
}

// quickstart returns the commands of a README's quickstart: its sh blocks.
func quickstart(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, file))
	if err != nil {
		t.Fatal(err)
	}
	var commands strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		commands.WriteString(block[1])
	}
	return commands.String()
}

func TestTheQuickstartCanBePastedAsABlockAndServesNoKeys(t *testing.T) {
	if os.Geteuid() != 0 {
		harness.Lacking(t, "the quickstart's ports in a network of its own take root")
	}
	harness.Tool(t, "curl")
	harness.Tool(t, "python3")
	for _, file := range []string{"README.md", "configs/quickstart/README.md"} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "configs"), os.DirFS(filepath.Join(repository, "configs"))); err != nil {
				t.Fatal(err)
			}
			for _, made := range []string{"pki", "east/state", "west/state", "east/gateway.token", "east/web.token", "west/gateway.token", "west/orders.token"} { // by whoever tried it here
				if err := os.RemoveAll(filepath.Join(dir, "configs/quickstart", made)); err != nil {
					t.Fatal(err)
				}
			}
			commands := regexp.MustCompile(`(?m)^CGO_ENABLED=0 go build.*$`).ReplaceAllString(quickstart(t, file), "")
			script := fmt.Sprintf("ip link set lo up\nexport PATH=%s:$PATH\n%s\n", filepath.Dir(binary), commands) +
				"for f in pki/root-key.pem ../pki/root-key.pem west/orders.yaml; do curl -s -o /dev/null -w '%{http_code}\\n' --path-as-is http://127.0.0.1:9001/$f; done\n" +
				"kill $(jobs -p)\n"
			// In a process-ID namespace of its own, so that nothing is left of it.
			cmd := exec.Command("unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-e", "-c", script)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{
				"nothing is wrong with this gateway", "1 gateway, 2 upstreams: nothing is wrong", "2 clusters, 2 gateways, 2 services: nothing is wrong",
				"\nshop/orders, in west\n", "\nshop/legacy, in west, without a sidecar\n",
			} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			if n := strings.Count(string(out), "\n404"); n < 3 {
				t.Errorf("files of the quickstart are served: of 3 answers %d are 404\n%s", n, out)
			}
		})
	}
}
