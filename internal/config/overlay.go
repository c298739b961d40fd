package config

import (
	"reflect"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// override is a key that the environment and a flag may set. A sidecar's
// service and upstreams are none: they are lists and blocks that belong in a
// file, and in Kubernetes a Service named isthmus puts ISTHMUS_SERVICE_PORT
// into every environment.
type override struct {
	path []string // listen, mesh
	list bool
	help string
	typ  reflect.Type
}

func (o override) key() string { return strings.Join(o.path, ".") }

// flag returns the flag's name: limits.pathsPerSource is limits-paths-per-source,
// identity.workloadAPI identity-workload-api.
func (o override) flag() string {
	var b strings.Builder
	upper := true // the one before: an abbreviation is one word
	for _, r := range strings.Join(o.path, "-") {
		if unicode.IsUpper(r) && !upper {
			b.WriteByte('-')
		}
		upper = unicode.IsUpper(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// env returns the variable's name: limits.pathsPerSource is ISTHMUS_LIMITS_PATHS_PER_SOURCE.
func (o override) env() string {
	return "ISTHMUS_" + strings.ToUpper(strings.ReplaceAll(o.flag(), "-", "_"))
}

// overrides returns the fields of t, and of the structs in it, that have a flag tag.
func overrides(t reflect.Type, at []string) []override {
	var all []override
	for f := range t.Fields() {
		path := append(at[:len(at):len(at)], f.Tag.Get("yaml"))
		if help, ok := f.Tag.Lookup("flag"); ok {
			all = append(all, override{path, f.Type.Kind() == reflect.Slice, help, f.Type})
		} else if f.Type.Kind() == reflect.Struct {
			all = append(all, overrides(f.Type, path)...)
		}
	}
	return all
}

// defineFlags adds a flag for every override of t. All are texts, so that the
// decoder reads them as it reads the file.
func defineFlags(t reflect.Type, flags *pflag.FlagSet) {
	for _, o := range overrides(t, nil) {
		help := o.help + " (key " + o.key() + ", " + o.env() + ")"
		if o.list {
			flags.StringSlice(o.flag(), nil, help)
		} else {
			flags.String(o.flag(), "", help)
		}
		if choices := choicesOf(o.typ); choices != nil {
			flags.Lookup(o.flag()).Annotations = map[string][]string{FlagChoices: choices}
		}
	}
}

// FlagChoices is the annotation of a flag that takes one of a few words: all of them.
const FlagChoices = "isthmus_choices"

// choicesOf returns the words that a type can be, nil for any other type.
func choicesOf(t reflect.Type) []string {
	method := reflect.New(t).MethodByName("Choices")
	if !method.IsValid() {
		return nil
	}
	var choices []string
	for _, c := range method.Call(nil)[0].Seq2() {
		choices = append(choices, c.String())
	}
	return choices
}

// overlay puts what the environment and the given flags say over doc.
func overlay(doc *strictyaml.Document, t reflect.Type, flags *pflag.FlagSet) {
	v := viper.New()
	for _, o := range overrides(t, nil) {
		// BindEnv fails without a key and BindPFlag without a flag only.
		_ = v.BindEnv(o.key(), o.env())
		origin := "environment " + o.env()
		if flags != nil {
			if f := flags.Lookup(o.flag()); f != nil {
				_ = v.BindPFlag(o.key(), f)
				if f.Changed {
					origin = "flag --" + o.flag()
				}
			}
		}
		if !v.IsSet(o.key()) {
			continue
		}
		switch value := v.Get(o.key()).(type) {
		case []string:
			doc.Set(origin, o.list, o.path, value...)
		case string:
			if o.list {
				doc.Set(origin, true, o.path, splitList(value)...)
			} else {
				doc.Set(origin, false, o.path, value)
			}
		}
	}
}

// splitList reads a list from one variable: a,b or "a b".
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}
