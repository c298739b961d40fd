// Package bpf is the eBPF object that the rest of interception works with, and what
// describes it to Go: the programs and maps, their names, and the structs in them.
// The C files are the source; bpf2go writes the Go types from their BTF, so that no
// layout is written down twice.
//
// One object holds the hooks and the sockmap redirect, since their programs share
// maps: package hooks loads and attaches all of it, package sockmap opens the pinned
// maps that it needs.
package bpf

// The headers of libbpf-dev include asm/types.h, which Debian keeps in a directory
// per architecture: scripts/generate names it in BPF2GO_CFLAGS.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -type endpoint -type settings -type prefix -type slot -type counter -type pair -type flow -type caught -type caller Kernel interception.c -- -O2 -g -Wall -Werror

// Layout is the version of the structs in maps.h and of the set of maps. Attach and
// Open refuse pins of another one.
const Layout = 6

// DialSidecar is the value of own_dials for the sidecar's connections (DIAL_SIDECAR).
const DialSidecar uint8 = 1
