// Package controlplane tests the sidecar's client against the gateway's servers:
// real gRPC, real mutual TLS, and processes that are killed and frozen.
package controlplane
