package config

import (
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
)

// Changes returns the keys whose values differ between two configurations of the
// same process, in the order of the struct: a list or a service that came or went
// is one key. What was left out and follows from another key is not named.
func Changes[T Gateway | Sidecar | CA | Webhook](before, after *T) []string {
	keys := changes(reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem(), "")
	was, is := derived(before), derived(after)
	return slices.DeleteFunc(keys, func(key string) bool { return slices.Contains(was, key) && slices.Contains(is, key) })
}

// derived returns the keys whose values are those that complete fills in for others.
func derived(of any) (keys []string) {
	switch c := of.(type) {
	case *Gateway:
		if c.Advertise == at(hostName(), c.Listen.Tunnel) {
			keys = append(keys, "advertise")
		}
		if a, err := hostport.Parse(c.Advertise); err == nil && c.MeshAddress == at(a.Host, c.Listen.Mesh) {
			keys = append(keys, "meshAddress")
		}
	case *Sidecar:
		if in, err := hostport.Parse(c.Listen.Inbound); err == nil && c.Service != nil {
			if in.Everywhere() {
				in.Host = ""
			}
			if c.Service.Advertise == in.String() {
				keys = append(keys, "service.advertise")
			}
		}
	}
	return keys
}

// at returns an address at host with the port of another.
func at(host, port string) string {
	a, err := hostport.Parse(port)
	if err != nil {
		return ""
	}
	a.Host = host
	return a.String()
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
