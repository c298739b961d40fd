package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"
)

// Decode reads the document into the struct that into points to. Keys that the
// document does not have leave their fields as they are, so defaults can be
// set before. The error is [Faults]; what could be decoded is decoded then too.
func (d *Document) Decode(into any) error {
	d.at = map[string]*yaml.Node{}
	r := decoder{doc: d}
	r.value(d.root, reflect.ValueOf(into).Elem(), "", 0)
	return r.faults.Err()
}

type decoder struct {
	doc    *Document
	faults Faults
	nodes  int
	full   bool // a bound was hit and has been reported
}

func (r *decoder) fault(n *yaml.Node, path, format string, args ...any) {
	if len(r.faults) > maxFaults {
		return
	}
	f := Fault{Source: r.doc.source, Key: path, Problem: fmt.Sprintf(format, args...)}
	r.doc.locate(&f, n)
	r.faults = append(r.faults, f)
}

var durationType = reflect.TypeFor[time.Duration]()

// keysOf returns the index of the field for every key that t has as a struct.
func keysOf(t reflect.Type) map[string]int {
	if t.Kind() != reflect.Struct {
		return nil
	}
	keys := map[string]int{}
	for i := range t.NumField() {
		if name, ok := t.Field(i).Tag.Lookup("yaml"); ok {
			keys[name] = i
		}
	}
	return keys
}

func (r *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	r.nodes++
	if r.full {
		return
	}
	if depth > maxDepth || r.nodes > maxNodes {
		r.full = true
		r.fault(n, path, "is nested too deeply or repeats too much: at most %d levels and %d values are read", maxDepth, maxNodes)
		return
	}
	if path != "" {
		if _, ok := r.doc.at[path]; !ok {
			r.doc.at[path] = n
		}
	}
	n = resolve(n)
	if v.Kind() == reflect.Pointer {
		if isNull(n) {
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind == yaml.ScalarNode && !isNull(n) {
			if err := text.UnmarshalText([]byte(n.Value)); err != nil {
				r.fault(n, path, "%v", err)
			}
			return
		}
		if len(keysOf(v.Type())) == 0 { // it has no long form
			r.scalar(n, v, path)
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		r.fields(n, v, path, depth)
	case reflect.Map:
		r.entries(n, v, path, depth)
	case reflect.Slice:
		r.elements(n, v, path, depth)
	default:
		r.scalar(n, v, path)
	}
}

// fields decodes a mapping into a struct.
func (r *decoder) fields(n *yaml.Node, v reflect.Value, path string, depth int) {
	if !r.want(n, path, yaml.MappingNode, "a mapping, key: value") {
		return
	}
	keys := keysOf(v.Type())
	r.pairs(n, path, func(key, value *yaml.Node, at string) {
		i, ok := keys[key.Value]
		if !ok {
			r.fault(key, at, "%s", unknownKey(key.Value, slices.Sorted(maps.Keys(keys))))
			return
		}
		r.value(value, v.Field(i), at, depth+1)
	})
}

// entries decodes a mapping into a map with string keys.
func (r *decoder) entries(n *yaml.Node, v reflect.Value, path string, depth int) {
	if !r.want(n, path, yaml.MappingNode, "a mapping, key: value") {
		return
	}
	m := reflect.MakeMap(v.Type())
	r.pairs(n, path, func(key, value *yaml.Node, at string) {
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.Slice && isNull(resolve(value)) { // nothing and everything look the same
			r.fault(value, at, "is empty: write [] for none, or remove it")
			return
		}
		r.value(value, e, at, depth+1)
		m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), e)
	})
	v.Set(m)
}

// elements decodes a list into a slice, which it replaces.
func (r *decoder) elements(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		r.fault(n, path, "%s is not a list: write [%s]", describe(n), shorten(n.Value))
		return
	}
	if !r.want(n, path, yaml.SequenceNode, "a list, [a, b]") {
		return
	}
	s := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), 1024))
	for i, c := range n.Content {
		e := reflect.New(v.Type().Elem()).Elem()
		at := fmt.Sprintf("%s[%d]", path, i)
		if isNull(resolve(c)) {
			r.fault(c, at, "is empty: write a value or remove it")
		} else {
			r.value(c, e, at, depth+1)
		}
		s = reflect.Append(s, e)
	}
	v.Set(s)
}

// want reports whether n is of the kind; a null is not, but is no fault either.
func (r *decoder) want(n *yaml.Node, path string, kind yaml.Kind, form string) bool {
	if n.Kind == kind {
		return true
	}
	if !isNull(n) {
		r.fault(n, path, "is %s: write %s", describe(n), form)
	}
	return false
}

// pairs calls each with every key of the mapping n, once.
func (r *decoder) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node, at string)) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := key.Value
		if path != "" {
			at = path + "." + key.Value
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			r.fault(key, path, "has a key that is %s: write a word", describe(key))
			continue
		case key.Tag == "!!merge":
			r.fault(key, path, "merge keys (<<) are not read: write the keys out")
			continue
		case len(key.Value) > 1024:
			r.fault(key, path, "has a key of %d bytes", len(key.Value))
			continue
		}
		if line, again := first[key.Value]; again {
			r.fault(key, at, "is given twice, first at line %d: remove one", line)
			continue
		}
		first[key.Value] = key.Line
		each(key, value, at)
	}
}

// scalar decodes a number, boolean, duration or string.
func (r *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		r.fault(n, path, "has no value: write one or remove the key")
		return
	}
	if n.Kind != yaml.ScalarNode {
		r.fault(n, path, "is %s: write a single value", describe(n))
		return
	}
	text := n.Value
	if v.Type() == durationType {
		t, err := time.ParseDuration(text)
		if err != nil {
			r.fault(n, path, "%s is no duration: write a number with its unit, such as 5s or 100ms", describe(n))
			return
		}
		v.SetInt(int64(t))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			r.fault(n, path, "%s is neither true nor false", describe(n))
			return
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			r.fault(n, path, "%s", notANumber(n, err, 1<<(v.Type().Bits()-1)-1))
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			if strings.HasPrefix(text, "-") {
				r.fault(n, path, "%s is negative: write 0 or more", describe(n))
				return
			}
			r.fault(n, path, "%s", notANumber(n, err, 1<<v.Type().Bits()-1))
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			r.fault(n, path, "%s is not a number", describe(n))
			return
		}
		v.SetFloat(f)
	default:
		// A mistake of ours, in the struct and not in the document.
		panic(fmt.Sprintf("strictyaml: %s: cannot decode into %s", path, v.Type()))
	}
}

func notANumber(n *yaml.Node, err error, most uint64) string {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Sprintf("%s is too large: write at most %d", describe(n), most)
	}
	return describe(n) + " is not a whole number"
}
