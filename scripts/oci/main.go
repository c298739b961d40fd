// Command oci writes a container image without a daemon, a registry or a base
// image: an archive in the OCI image layout, as `ctr images import`, `docker load`,
// `podman load` and `skopeo copy oci-archive:` take it.
//
//	oci -o isthmus.tar -t isthmus:dev -user 65532 bin/amd64/isthmus=/isthmus bin/arm64/isthmus=/isthmus
//
// Each argument is FILE=PATH: FILE as PATH in the image. The machine that a program is
// for is read from the program; programs for several of them make an image of several
// platforms, and what is no program is in all of them. The first PATH is the
// entrypoint. The labels say what its build says of itself (`go version -m`). The same files make
// the same bytes.
package main

import (
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("oci: ")
	out := flag.String("o", "", "archive to write")
	user := flag.String("user", "65532", "user, or user:group, that the program runs as: numbers")
	var tags []string
	flag.Func("t", "NAME:TAG of the image; repeat for more", func(s string) error {
		if name, tag, ok := strings.Cut(path.Base(s), ":"); !ok || name == "" || tag == "" {
			return errors.New("write NAME:TAG")
		}
		tags = append(tags, s)
		return nil
	})
	flag.Parse()
	if *out == "" || len(tags) == 0 || flag.NArg() == 0 {
		log.Print("usage: oci -o ARCHIVE -t NAME:TAG [-user UID] FILE=PATH…")
		os.Exit(2)
	}
	files, err := readFiles(flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	if err := write(*out, tags, *user, files); err != nil {
		log.Fatal(err)
	}
}

// file is one in the image.
type file struct {
	path         string // absolute
	content      []byte
	mode         int64
	architecture string // as OCI writes it; empty: for all
	interpreter  string // what loads it, as a program that needs a C library says; empty: the kernel
}

func readFiles(args []string) ([]file, error) {
	var files []file
	for _, arg := range args {
		from, to, ok := strings.Cut(arg, "=")
		if !ok || !path.IsAbs(to) || path.Clean(to) != to || to == "/" {
			return nil, fmt.Errorf("%q: write FILE=PATH, PATH from the image's root", arg)
		}
		info, err := os.Stat(from)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: not a regular file", from)
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		f := file{path: to, content: content, mode: int64(info.Mode().Perm() | 0o444)} // whoever runs it can read it
		if f.architecture, f.interpreter, err = machineOf(from); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(files, func(o file) bool {
			return o.path == f.path && (o.architecture == f.architecture || o.architecture == "" || f.architecture == "")
		}) {
			return nil, fmt.Errorf("%s: %s is in the image already", from, to)
		}
		files = append(files, f)
	}
	for i, f := range files {
		if f.interpreter != "" && !slices.ContainsFunc(files, func(o file) bool { return o.path == f.interpreter }) {
			return nil, fmt.Errorf("%s needs a C library, which is not in the image: build it with CGO_ENABLED=0", args[i])
		}
	}
	if files[0].architecture == "" {
		return nil, fmt.Errorf("%s: the entrypoint is no program for Linux", args[0])
	}
	return files, nil
}

// machineOf returns the machine that a program is for, and what has to load it; nothing
// for a file that is no program.
func machineOf(name string) (architecture, interpreter string, err error) {
	f, err := elf.Open(name)
	if bad := (*elf.FormatError)(nil); errors.As(err, &bad) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			path, err := io.ReadAll(io.LimitReader(p.Open(), 4<<10))
			if err != nil {
				return "", "", err
			}
			interpreter = strings.TrimRight(string(path), "\x00")
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", interpreter, nil
	case elf.EM_AARCH64:
		return "arm64", interpreter, nil
	}
	return "", "", fmt.Errorf("%s: for a machine that no image is made for (%v)", name, f.Machine)
}
