package inject

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Operation is one operation of a JSON patch (RFC 6902). Only these are used: "add" of a
// key, of a whole list, or of an element at an index or at the end ("-"), and "remove" of a
// key.
type Operation struct {
	Op    string
	Path  []string // keys and indices from the pod down
	Value any      // of add
}

// The operations.
const (
	Add    = "add"
	Remove = "remove"
)

// MarshalJSON writes the path as a JSON pointer (RFC 6901).
func (o Operation) MarshalJSON() ([]byte, error) {
	var pointer strings.Builder
	for _, p := range o.Path {
		pointer.WriteByte('/')
		pointer.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
	}
	raw := map[string]any{"op": o.Op, "path": pointer.String()}
	if o.Op == Add {
		raw["value"] = o.Value
	}
	return json.Marshal(raw)
}

// setKeys returns what sets keys of the map at path, which is have.
func setKeys(have, set map[string]string, path ...string) []Operation {
	if len(have) == 0 && len(set) > 0 {
		return []Operation{{Op: Add, Path: path, Value: set}}
	}
	var all []Operation
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if was, ok := have[key]; !ok || was != set[key] {
			all = append(all, Operation{Op: Add, Path: below(path, key), Value: set[key]})
		}
	}
	return all
}

// removeKeys returns what removes keys of the map at path, which is have.
func removeKeys(have map[string]string, path []string, keys ...string) []Operation {
	var all []Operation
	for _, key := range keys {
		if _, ok := have[key]; ok {
			all = append(all, Operation{Op: Remove, Path: below(path, key)})
		}
	}
	return all
}

// prepend returns what puts elements before the n that the list at path has.
func prepend[T any](n int, elements []T, path ...string) []Operation {
	if n == 0 {
		return []Operation{{Op: Add, Path: path, Value: elements}}
	}
	var all []Operation
	for _, e := range slices.Backward(elements) {
		all = append(all, Operation{Op: Add, Path: below(path, "0"), Value: e})
	}
	return all
}

// appendTo returns what puts elements behind the n that the list at path has.
func appendTo[T any](n int, elements []T, path ...string) []Operation {
	if n == 0 {
		return []Operation{{Op: Add, Path: path, Value: elements}}
	}
	var all []Operation
	for _, e := range elements {
		all = append(all, Operation{Op: Add, Path: below(path, "-"), Value: e})
	}
	return all
}

func below(path []string, key string) []string { return append(slices.Clone(path), key) }
