package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What "The straight line" of ARCHITECTURE.md says of the code: a file, and the functions
// of it that follow, as in "`merge.go` follow, publish and cut".
var (
	hopFile = regexp.MustCompile("`([a-z0-9_/]+\\.go)` ([^`.:;()]*)")
	anyFile = regexp.MustCompile("`([a-z0-9_/]+\\.go)`")
	oneWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)
)

func TestEveryHopOfTheStraightLineIsInItsFile(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "## The straight line")
	line, _, _ = strings.Cut(line, "\n## ")
	line = strings.Join(strings.Fields(line), " ")

	declared := declarations(t)
	hops := 0
	for _, m := range hopFile.FindAllStringSubmatch(line, -1) {
		file, follows := m[1], strings.ReplaceAll(m[2], " and ", ", ")
		for _, name := range strings.Split(follows, ", ") {
			name = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(name), " and"))
			if !oneWord.MatchString(name) || name == "and" || name == "then" {
				break // the names are over
			}
			hops++
			if !declared[name][file] {
				t.Errorf("%s declares no %s: correct the straight line", file, name)
			}
		}
	}
	for _, m := range anyFile.FindAllStringSubmatch(line, -1) {
		if !declared[""][m[1]] {
			t.Errorf("there is no %s: correct the straight line", m[1])
		}
	}
	if hops < 100 {
		t.Errorf("%d hops are found, there are more: does this test still read them?", hops)
	}
}

// declarations returns by the name of each function, method and type the files that declare it,
// by the empty name all files, each under all the ends of its path: "gateway/xds/cache.go", "xds/cache.go" and "cache.go".
func declarations(t *testing.T) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	add := func(name, path string) {
		if all[name] == nil {
			all[name] = map[string]bool{}
		}
		for ok := true; ok; _, path, ok = strings.Cut(path, "/") {
			all[name][path] = true
		}
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		add("", filepath.ToSlash(path))
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				add(d.Name.Name, filepath.ToSlash(path))
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						add(s.Name.Name, filepath.ToSlash(path))
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
