package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// Role is one of the two processes.
type Role string

// The roles.
const (
	GatewayRole Role = "gateway"
	SidecarRole Role = "sidecar"
)

// GuessRole returns the role whose keys the file uses, or "" when that is not
// clear. The error says why the file cannot be read.
func GuessRole(path string) (Role, error) {
	doc, err := read(path)
	if err != nil {
		return "", err
	}
	if len(doc.Keys()) == 0 {
		return "", strictyaml.Faults{{Source: path, Problem: "is empty: write a gateway's or a sidecar's configuration, see isthmus gateway --help"}}
	}
	gateway, sidecar := keysOf(reflect.TypeFor[Gateway]()), keysOf(reflect.TypeFor[Sidecar]())
	var score int // positive: more like a gateway's
	for _, key := range doc.Keys() {
		inGateway, inSidecar := slices.Contains(gateway, key), slices.Contains(sidecar, key)
		switch {
		case inGateway && !inSidecar:
			score++
		case inSidecar && !inGateway:
			score--
		}
	}
	switch {
	case score > 0:
		return GatewayRole, nil
	case score < 0:
		return SidecarRole, nil
	}
	return "", nil
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

// FaultAt returns a fault at a key of the file, such as listen.mesh: for what
// is found wrong only when a value is used.
func FaultAt(path string, role Role, key, problem string) strictyaml.Fault {
	doc, err := read(path)
	if err != nil {
		return strictyaml.Fault{Source: path, Key: key, Problem: problem}
	}
	var into any = gatewayDefaults()
	if role == SidecarRole {
		into = sidecarDefaults()
	}
	_ = doc.Decode(into) // its faults are known; it finds the lines
	return doc.Fault(key, "%s", strings.ReplaceAll(problem, "\n", "; "))
}

// KeyError is what is wrong with the value of a key, found out only when it is
// used: a process cannot start with it. See [FaultAt].
type KeyError struct {
	Key     string // such as identity.dir
	Problem string // and what to do about it
}

// Error returns "key: problem".
func (e *KeyError) Error() string { return e.Key + ": " + e.Problem }
