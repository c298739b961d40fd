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
