// Package demo runs three clusters on this machine and breaks them on purpose:
// real processes of this binary, config files as a user would write them, on
// loopback, without privilege. It drives steady traffic through every fault
// and reports what a caller would have noticed.
//
//	layout.go   which processes there are, their ports, files and certificates
//	process.go  starting, freezing and killing them
//	load.go     the traffic and its bookkeeping
//	script.go   the phases, in order
//	report.go   the closing table and JSON
//	serve.go    the program behind each sidecar
package demo
