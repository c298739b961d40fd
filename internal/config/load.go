package config

import (
	"errors"

	"github.com/spf13/pflag"
)

// LoadGateway reads a gateway's configuration: the file, over it the
// environment (ISTHMUS_…), over it the flags that were given. An empty path
// stands for no file, nil flags for none. The error joins every fault, each
// with its file, line and key.
func LoadGateway(path string, flags *pflag.FlagSet) (*Gateway, error) {
	return nil, errors.New("being written")
}

// LoadSidecar is [LoadGateway] for a sidecar.
func LoadSidecar(path string, flags *pflag.FlagSet) (*Sidecar, error) {
	return nil, errors.New("being written")
}

// GatewayFlags defines the flags that LoadGateway understands: one for every
// scalar key, named like it (listen.mesh is --listen-mesh).
func GatewayFlags(flags *pflag.FlagSet) {}

// SidecarFlags is [GatewayFlags] for a sidecar.
func SidecarFlags(flags *pflag.FlagSet) {}
