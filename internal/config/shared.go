package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Identity says where a process has its certificate from.
type Identity struct {
	// Dir holds cert.pem, key.pem and roots.pem, as isthmus pki writes them.
	Dir string `yaml:"dir"`
}

// Log says what a process logs.
type Log struct {
	Level  slog.Level `yaml:"level"`  // default info
	Format LogFormat  `yaml:"format"` // default text
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
	o := &slog.HandlerOptions{Level: l.Level}
	if l.Format == LogJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
