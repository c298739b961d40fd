package config

import "reflect"

// Changes returns the keys whose values differ between two configurations of the
// same process, in the order of the struct: a list or a service that came or went
// is one key.
func Changes[T Gateway | Sidecar | CA](before, after *T) []string {
	return changes(reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem(), "")
}

func changes(before, after reflect.Value, key string) []string {
	if before.Kind() == reflect.Pointer && !before.IsNil() && !after.IsNil() {
		before, after = before.Elem(), after.Elem()
	}
	if before.Kind() == reflect.Struct && hasKeys(before.Type()) {
		var all []string
		for i := range before.NumField() {
			at := before.Type().Field(i).Tag.Get("yaml")
			if key != "" {
				at = key + "." + at
			}
			all = append(all, changes(before.Field(i), after.Field(i), at)...)
		}
		return all
	}
	if reflect.DeepEqual(before.Interface(), after.Interface()) {
		return nil
	}
	return []string{key}
}

// hasKeys reports whether t is a block of keys rather than one value.
func hasKeys(t reflect.Type) bool {
	for f := range t.Fields() {
		if f.Tag.Get("yaml") == "" {
			return false
		}
	}
	return true
}
