package config

import (
	"fmt"
	"log/slog"
	"slices"
)

// Identity says where a process has its certificate from.
type Identity struct {
	// The directory of cert.pem, key.pem and roots.pem, as isthmus pki writes them.
	// It is watched.
	Dir string `yaml:"dir" flag:"directory of cert.pem, key.pem and roots.pem"`
}

// Log says what a process logs.
type Log struct {
	// The least severe level that is logged: debug, info, warn or error.
	// Default: info.
	Level LogLevel `yaml:"level" flag:"debug, info, warn or error"`
	// text (key=value) or json (one object a line).
	Format LogFormat `yaml:"format" flag:"text or json"`
}

// Audit says where a process writes down what it decided about others.
type Audit struct {
	// A file to which one JSON object a line is appended: registrations, tunnels,
	// catalogs, certificates and refused calls. It may be rotated by renaming it.
	// Default: none.
	File string `yaml:"file" flag:"file to which decisions are appended"`
	// Which calls are part of it: refused, or all.
	Calls AuditCalls `yaml:"calls" flag:"refused or all"`
}

// AuditCalls says which calls are part of the audit stream.
type AuditCalls string

// The choices of AuditCalls.
const (
	AuditRefused AuditCalls = "refused"
	AuditAll     AuditCalls = "all"
)

// UnmarshalText reads "refused" or "all".
func (a *AuditCalls) UnmarshalText(b []byte) error {
	return choose(a, b)
}

// Choices returns the words.
func (AuditCalls) Choices() []AuditCalls { return []AuditCalls{AuditRefused, AuditAll} }

// LogLevel is the least severe level that is logged. The zero value is info.
type LogLevel slog.Level

// UnmarshalText reads "debug", "info", "warn" or "error".
func (l *LogLevel) UnmarshalText(b []byte) error {
	if slices.Contains(l.Choices(), string(b)) {
		return (*slog.Level)(l).UnmarshalText(b)
	}
	return fmt.Errorf("%q is no log level: write %s", b, orList(l.Choices()))
}

// Choices returns the words.
func (*LogLevel) Choices() []string { return []string{"debug", "info", "warn", "error"} }

// LogFormat is the form of log lines.
type LogFormat string

// The forms of log lines.
const (
	LogText LogFormat = "text" // key=value
	LogJSON LogFormat = "json" // one object a line
)

// UnmarshalText reads "text" or "json".
func (f *LogFormat) UnmarshalText(b []byte) error {
	return choose(f, b)
}

// Choices returns the words.
func (LogFormat) Choices() []LogFormat { return []LogFormat{LogText, LogJSON} }
