package strictyaml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type color string

func (c *color) UnmarshalText(b []byte) error {
	if string(b) != "red" {
		return fmt.Errorf("%q is no color: write red", b)
	}
	*c = color(b)
	return nil
}

// point has a short form, "x".
type point struct {
	X string `yaml:"x"`
	Y int    `yaml:"y"`
}

func (p *point) UnmarshalText(b []byte) error { p.X = string(b); return nil }

type sample struct {
	Name   string            `yaml:"name"`
	Count  uint16            `yaml:"count"`
	On     bool              `yaml:"on"`
	Wait   time.Duration     `yaml:"wait"`
	Ratio  float64           `yaml:"ratio"`
	List   []string          `yaml:"list"`
	Labels map[string]string `yaml:"labels"`
	Color  color             `yaml:"color"`
	Points []point           `yaml:"points"`
	Inner  struct {
		Depth int `yaml:"depth"`
	} `yaml:"inner"`
	Maybe *point `yaml:"maybe"`
	Own   int
}

func decode(t *testing.T, text string) (sample, *Document, error) {
	t.Helper()
	docs, err := Parse("f.yaml", []byte(text))
	if err != nil {
		return sample{}, nil, err
	}
	if len(docs) != 1 {
		t.Fatalf("%d documents", len(docs))
	}
	var s sample
	err = docs[0].Decode(&s)
	return s, docs[0], err
}

func TestEveryKindOfValueIsDecoded(t *testing.T) {
	s, _, err := decode(t, `
name: 8080
count: 7
on: true
wait: 1.5s
ratio: 0.5
list: [a, "b"]
labels: {k: v}
color: red
points: [short, {x: long, y: -2}]
inner: {depth: 3}
maybe: {x: there}
`)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %d %v %s %v %v %v %s %v %d %v", s.Name, s.Count, s.On, s.Wait, s.Ratio, s.List, s.Labels, s.Color, s.Points, s.Inner.Depth, *s.Maybe)
	if want := "8080 7 true 1.5s 0.5 [a b] map[k:v] red [{short 0} {long -2}] 3 {there 0}"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEveryFaultIsToldAtOnceWithLineAndKey(t *testing.T) {
	_, _, err := decode(t, `nmae: x
count: 70000
on: yes
wait: 5
ratio: .nan
list: one
labels: {k: [v]}
color: blue
points: [{x: a, z: 1}, null]
inner: [1]
name: a
name: b
<<: {name: c}
`)
	want := []string{
		`f.yaml:1: nmae: there is no such key: write name`,
		`f.yaml:2: count: "70000" is too large: write at most 65535`,
		`f.yaml:3: on: "yes" is neither true nor false`,
		`f.yaml:4: wait: "5" is no duration: write a number with its unit, such as 5s or 100ms`,
		`f.yaml:5: ratio: ".nan" is not a number`,
		`f.yaml:6: list: "one" is not a list: write [one]`,
		`f.yaml:7: labels.k: is a list: write a single value`,
		`f.yaml:8: color: "blue" is no color: write red`,
		`f.yaml:9: points[0].z: there is no such key: write x`,
		`f.yaml:9: points[1]: is empty: write a value or remove it`,
		`f.yaml:10: inner: is a list: write a mapping, key: value`,
		`f.yaml:12: name: is given twice, first at line 11: remove one`,
		`f.yaml:13: merge keys (<<) are not read: write the keys out`,
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got:\n%v\nwant:\n%s", err, strings.Join(want, "\n"))
	}
	if f, ok := errors.AsType[Fault](err); !ok || f.Line != 1 {
		t.Errorf("errors.As finds %+v", f)
	}
}

func TestANullLeavesListsAndMappingsAndIsAFaultForTheRest(t *testing.T) {
	s, _, err := decode(t, "list:\nlabels:\ninner:\nmaybe:\npoints:\n")
	if err != nil || s.Maybe != nil || s.List != nil {
		t.Errorf("%+v, %v", s, err)
	}
	_, _, err = decode(t, "name:\ncolor: ~\n")
	if want := "f.yaml:1: name: has no value: write one or remove the key\nf.yaml:2: color: has no value: write one or remove the key"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestTextThatIsNoMappingOfKeysIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a: b: c":              "f.yaml:1: is not YAML: mapping values are not allowed in this context",
		"a:\n\t- b":            "with tabs",
		"- a\n- b":             "f.yaml:1: is a list: write a mapping, key: value",
		"just text":            `f.yaml:1: is "just text": write a mapping, key: value`,
		"\xff\xfe\x00":         "f.yaml:1: is not YAML",
		"name: a\n---\n- x\n":  "f.yaml:3: is a list",
		"{name: a":             "is not YAML",
		"name: !!binary aGk=x": "",
	} {
		if _, _, err := decode(t, text); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestAliasesAreReadWithinABound(t *testing.T) {
	s, _, err := decode(t, "points: [&p {x: a}, *p]\n")
	if err != nil || len(s.Points) != 2 || s.Points[1].X != "a" {
		t.Errorf("%+v, %v", s, err)
	}
	// The billion laughs, in lists.
	var b strings.Builder
	b.WriteString("a0: &a0 {x: 1}\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d {", i, i)
		for j := range 10 {
			fmt.Fprintf(&b, "k%d: *a%d, ", j, i-1)
		}
		b.WriteString("}\n")
	}
	docs, err := Parse("f.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	var into struct {
		A3 map[string]map[string]map[string]map[string]string `yaml:"a3"`
	}
	if err := docs[0].Decode(&into); err == nil {
		t.Error("unknown keys were taken")
	}
	if _, _, err := decode(t, "inner: &i {depth: *i}\n"); err == nil {
		t.Error("a cycle was taken")
	}
}

func TestTooMuchIsRefusedBeforeItIsParsed(t *testing.T) {
	if _, err := Parse("f.yaml", make([]byte, MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("got %v", err)
	}
	if _, _, err := decode(t, "list: "+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)); err == nil {
		t.Error("deep nesting was taken")
	}
	many := "x" + strings.Repeat("1: 1\nx", 1000) + "2: 1"
	_, _, err := decode(t, strings.ReplaceAll(many, "x1", "x"))
	if fs, ok := errors.AsType[Faults](err); !ok || len(fs) > maxFaults+1 {
		t.Errorf("%d faults", len(fs))
	}
}

func TestWhatIsSetOverTheFileIsToldByItsOrigin(t *testing.T) {
	_, doc, err := decode(t, "name: a\ninner: {depth: 1}\n")
	if err != nil {
		t.Fatal(err)
	}
	doc.Set("flag --inner-depth", false, []string{"inner", "depth"}, "x")
	doc.Set("environment E", true, []string{"list"}, "a", "b")
	doc.Set("environment W", false, []string{"wait"}, "z")
	var s sample
	err = doc.Decode(&s)
	want := "environment W: wait: \"z\" is no duration: write a number with its unit, such as 5s or 100ms\n" +
		"flag --inner-depth: inner.depth: \"x\" is not a whole number"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	if len(s.List) != 2 || s.Name != "a" {
		t.Errorf("%+v", s)
	}
	if !doc.IsSet("list") || doc.IsSet("name") || !doc.Has("name") || doc.Has("maybe") {
		t.Error("IsSet or Has is wrong")
	}
	if f := doc.Fault("inner.other", "bad"); f.Error() != "f.yaml:2: inner.other: bad" {
		t.Errorf("a fault at a missing key is %s", f)
	}
}

func TestAFileThatCannotBeReadSaysWhy(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.yaml")
	if _, err := Read(missing); err == nil || err.Error() != missing+": there is no such file: check the path" {
		t.Errorf("got %v", err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("got %v", err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("# nothing\n---\nname: a\n---\nname: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	docs, err := Read(good)
	if err != nil || len(docs) != 2 || docs[1].Text("name") != "b" || docs[1].Line() != 5 {
		t.Errorf("%v, %v", docs, err)
	}
}

func TestTheNearestKeyIsMeant(t *testing.T) {
	keys := []string{"advertise", "cluster", "meshAddress", "name", "join"}
	for word, want := range map[string]string{
		"nmae": "name", "clutser": "cluster", "mesh_address": "meshAddress", "meshaddress": "meshAddress",
		"Join": "join", "zebra": "", "x": "", "": "",
	} {
		if got := nearest(word, keys); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"name: a\n", "points: [&p {x: a}, *p]", "a: &a [*a]", "? {a: b}\n: c", "<<: {name: c}", "labels: {1: 2}\n---\nx: y", "list:\n- ~", "\t", "!!map {}", "wait: 1e9999h", "inner: &i {depth: *i}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := Parse("f", data)
		if err != nil {
			if _, ok := errors.AsType[Faults](err); !ok {
				t.Fatalf("not faults: %v", err)
			}
			return
		}
		for _, d := range docs {
			var s sample
			d.Keys()
			d.Text("name")
			d.Text("inner", "depth")
			if err := d.Decode(&s); err != nil {
				for _, fault := range err.(Faults) {
					if fault.Source == "" || fault.Problem == "" {
						t.Fatalf("fault without source or problem: %+v", fault)
					}
				}
			}
			d.Set("flag", false, []string{"inner", "depth"}, "4")
			if err := d.Decode(&s); err == nil && s.Inner.Depth != 4 {
				t.Fatalf("set, but not decoded: %+v", s)
			}
		}
	})
}
