package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// Role is one of the processes.
type Role string

// The roles.
const (
	GatewayRole Role = "gateway"
	SidecarRole Role = "sidecar"
	CARole      Role = "ca"
	WebhookRole Role = "webhook"
	NodeRole    Role = "node"
)

// defaultsOf returns what a role reads its file into, as it is before.
func defaultsOf(role Role) any {
	switch role {
	case SidecarRole:
		return sidecarDefaults()
	case CARole:
		return caDefaults()
	case WebhookRole:
		return webhookDefaults()
	case NodeRole:
		return nodeDefaults()
	}
	return gatewayDefaults()
}

// GuessRole returns the role whose keys the file uses, or "" when that is not
// clear. The error says why the file cannot be read.
func GuessRole(path string) (Role, error) {
	doc, err := read(path)
	if err != nil {
		return "", err
	}
	if len(doc.Keys()) == 0 {
		return "", emptyFile(path)
	}
	var likely []Role // those that know the most of the keys
	most := 0
	for _, role := range []Role{GatewayRole, SidecarRole, CARole, WebhookRole} {
		if role == CARole && !slices.Contains(doc.Keys(), "authority") {
			continue // what else it has, others have, too
		}
		if role == WebhookRole && !slices.Contains(doc.Keys(), "sidecar") {
			continue
		}
		known := 0
		for _, key := range keysOf(reflect.TypeOf(defaultsOf(role)).Elem()) {
			if slices.Contains(doc.Keys(), key) {
				known++
			}
		}
		if known > most {
			most, likely = known, nil
		}
		if known == most {
			likely = append(likely, role)
		}
	}
	if len(likely) == 1 {
		return likely[0], nil
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
	_ = doc.Decode(defaultsOf(role)) // its faults are known; it finds the lines
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

// emptyFile is what is wrong with a file that says nothing.
func emptyFile(path string) error {
	return strictyaml.Faults{{Source: path, Problem: "is empty: write a gateway's, a sidecar's, a CA's or a webhook's configuration, see isthmus gateway --help"}}
}
