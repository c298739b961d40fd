package config

import (
	"errors"
	"path/filepath"
	"reflect"

	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// LoadGateway reads a gateway's configuration: the file, over it the
// environment (ISTHMUS_…), over it the flags that were given. An empty path
// stands for no file, nil flags for none. The error is [strictyaml.Faults]:
// every fault, each with its file, line and key. With an error the result is
// what could be read, to look for more faults in, and not to be run with.
func LoadGateway(path string, flags *pflag.FlagSet) (*Gateway, error) {
	g := gatewayDefaults()
	return g, load(path, flags, g, g.complete)
}

// LoadSidecar is [LoadGateway] for a sidecar.
func LoadSidecar(path string, flags *pflag.FlagSet) (*Sidecar, error) {
	s := sidecarDefaults()
	return s, load(path, flags, s, s.complete)
}

// LoadCA is [LoadGateway] for a CA.
func LoadCA(path string, flags *pflag.FlagSet) (*CA, error) {
	ca := caDefaults()
	return ca, load(path, flags, ca, ca.complete)
}

// LoadWebhook is [LoadGateway] for a webhook.
func LoadWebhook(path string, flags *pflag.FlagSet) (*Webhook, error) {
	w := webhookDefaults()
	return w, load(path, flags, w, w.complete)
}

// LoadNode is [LoadGateway] for a node's agent.
func LoadNode(path string, flags *pflag.FlagSet) (*Node, error) {
	n := nodeDefaults()
	return n, load(path, flags, n, n.complete)
}

// GatewayFlags defines the flags that LoadGateway understands: one for every
// key that fits on a command line, named like it (listen.mesh is --listen-mesh).
func GatewayFlags(flags *pflag.FlagSet) { defineFlags(reflect.TypeFor[Gateway](), flags) }

// SidecarFlags is [GatewayFlags] for a sidecar.
func SidecarFlags(flags *pflag.FlagSet) { defineFlags(reflect.TypeFor[Sidecar](), flags) }

// CAFlags is [GatewayFlags] for a CA.
func CAFlags(flags *pflag.FlagSet) { defineFlags(reflect.TypeFor[CA](), flags) }

// NodeFlags is [GatewayFlags] for a node's agent.
func NodeFlags(flags *pflag.FlagSet) { defineFlags(reflect.TypeFor[Node](), flags) }

// WebhookFlags is [GatewayFlags] for a webhook.
func WebhookFlags(flags *pflag.FlagSet) { defineFlags(reflect.TypeFor[Webhook](), flags) }

// load decodes into the struct that into points to, which holds the defaults,
// and has it completed.
func load(path string, flags *pflag.FlagSet, into any, complete func(*completer)) error {
	doc, err := read(path)
	if err != nil {
		return err
	}
	overlay(doc, reflect.TypeOf(into).Elem(), flags)
	empty := path != "" && len(doc.Keys()) == 0
	c := &completer{doc: doc, dir: filepath.Dir(path)}
	if err := doc.Decode(into); err != nil {
		c.undecoded, _ = errors.AsType[strictyaml.Faults](err)
	}
	complete(c)
	if empty && len(c.faults) > 0 {
		return emptyFile(path)
	}
	return append(c.undecoded, c.faults...).Err()
}

func read(path string) (*strictyaml.Document, error) {
	if path == "" {
		return strictyaml.Empty("configuration"), nil
	}
	docs, err := strictyaml.Read(path)
	if err != nil {
		return nil, err
	}
	switch len(docs) {
	case 0:
		return strictyaml.Empty(path), nil
	case 1:
		return docs[0], nil
	}
	return nil, strictyaml.Faults{{Source: path, Line: docs[1].Line(), Problem: "begins a second document: write all keys into one"}}
}
