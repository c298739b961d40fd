package config

import (
	"fmt"
	"io"
	"log/slog"
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
	Level LogLevel `yaml:"level" flag:"debug, info, warn or error"`
	// text (key=value) or json (one object a line).
	Format LogFormat `yaml:"format" flag:"text or json"`
}

// LogLevel is the least severe level that is logged. The zero value is info.
type LogLevel slog.Level

// UnmarshalText reads "debug", "info", "warn" or "error".
func (l *LogLevel) UnmarshalText(b []byte) error {
	switch string(b) {
	case "debug", "info", "warn", "error":
		return (*slog.Level)(l).UnmarshalText(b)
	}
	return fmt.Errorf("%q is no log level: write debug, info, warn or error", b)
}

// LogFormat is the form of log lines.
type LogFormat string

// The forms of log lines.
const (
	LogText LogFormat = "text" // key=value
	LogJSON LogFormat = "json" // one object a line
)

// UnmarshalText reads "text" or "json".
func (f *LogFormat) UnmarshalText(b []byte) error {
	switch v := LogFormat(b); v {
	case LogText, LogJSON:
		*f = v
		return nil
	}
	return fmt.Errorf("%q is no log format: write text or json", b)
}

// Logger returns a logger that writes to w as l says.
func (l Log) Logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.Level(l.Level)}
	if l.Format == LogJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
