package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// machines are ELF's names for those that a test's program is said to be for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV}

// build builds a program that says it is for a machine: to compile it for each would
// compile Go's own library for each.
func build(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, arch)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint16(content[18:], uint16(machines[arch])) // e_machine
	if err := os.WriteFile(out, content, 0o700); err != nil {
		t.Fatal(err)
	}
	return out
}

// contents reads an archive.
func contents(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[head.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if head.Uid != 0 || head.Gid != 0 || !head.ModTime.IsZero() && head.ModTime.Unix() != 0 {
			t.Errorf("%s is %d:%d's of %v: not the same wherever it is built", head.Name, head.Uid, head.Gid, head.ModTime)
		}
	}
}

func TestAnImageHasAPlatformForEveryMachineThatAProgramIsFor(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("for all"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := readFiles([]string{build(t, "amd64") + "=/bin/prog", build(t, "arm64") + "=/bin/prog", note + "=/etc/note"})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "image.tar")
	var archives [][]byte
	for range 2 {
		if err := write(out, []string{"r.example:5000/prog:1", "prog:2"}, "65532", files); err != nil {
			t.Fatal(err)
		}
		archive, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, archive)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the same files made two images")
	}

	all := contents(t, archives[0])
	blob := func(d descriptor, into any) {
		content, ok := all["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if !ok || len(content) != d.Size || (blobs{}).add("", content).Digest != d.Digest {
			t.Fatalf("no blob is %+v", d)
		}
		if err := json.Unmarshal(content, into); into != nil && err != nil {
			t.Fatal(err)
		}
	}
	var top, image index
	if err := json.Unmarshal(all["index.json"], &top); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range top.Manifests {
		names = append(names, m.Annotations["io.containerd.image.name"])
		blob(m, &image)
	}
	if got, want := strings.Join(names, " "), "r.example:5000/prog:1 docker.io/library/prog:2"; got != want {
		t.Errorf("the image is called %s, want %s", got, want)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		var m manifest
		var config imageConfig
		if image.Manifests[i].Platform.Architecture != arch {
			t.Errorf("platform %d is %+v", i, image.Manifests[i].Platform)
		}
		blob(image.Manifests[i], &m)
		blob(m.Config, &config)
		if c := config.Config; config.Architecture != arch || c.User != "65532" || c.Entrypoint[0] != "/bin/prog" || c.Labels["org.golang.version"] == "" {
			t.Errorf("%s: %+v", arch, config)
		}
		packed := all["blobs/"+strings.Replace(m.Layers[0].Digest, ":", "/", 1)]
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if config.RootFS.DiffIDs[0] != (blobs{}).add("", layer).Digest {
			t.Errorf("%s: the layer is another one than its config says", arch)
		}
		in := contents(t, layer)
		if string(in["etc/note"]) != "for all" || !bytes.Equal(in["bin/prog"], files[i].content) {
			t.Errorf("%s: the layer holds something else", arch)
		}
	}
}

func TestWhatWouldNotRunIsRefused(t *testing.T) {
	t.Parallel()
	prog, text := build(t, "amd64"), filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"write FILE=PATH":         {prog},
		"PATH from the image's":   {prog + "=prog"},
		"in the image already":    {prog + "=/prog", prog + "=/prog"},
		"no program for Linux":    {text + "=/text"},
		"no image is made for":    {build(t, "riscv64") + "=/prog"},
		"not a regular file":      {filepath.Dir(prog) + "=/prog"},
		"no such file":            {prog + "-=/prog"},
		"build it with CGO_ENABL": {"/bin/sh=/prog"},
	} {
		if _, err := readFiles(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
