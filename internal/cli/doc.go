// Package cli is the command line: one file per command, each thin. A command
// reads its flags, loads a configuration and calls the package that does the
// work; it decides nothing itself.
package cli
