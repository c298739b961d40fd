package cli

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/config"
)

// maxLogValue bounds one value in a log line, in bytes: others may choose what an
// error says.
const maxLogValue = 4 << 10

// newLogger returns a logger that writes to w as l says, and its level, which a
// reload may change. A value reads the same in both formats: durations, addresses and
// errors as people write them.
func newLogger(l config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(slog.Level(l.Level))
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 || a.Key != slog.TimeKey && a.Key != slog.LevelKey {
			a.Value = readable(a.Value)
		}
		return a
	}}
	if l.Format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, o)), level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}

// readable returns what is a text to people as one, and no text longer than the
// bound.
func readable(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(bounded(v.String()))
	case slog.KindDuration:
		return slog.StringValue(v.Duration().String())
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return slog.StringValue(bounded(x.Error()))
		case encoding.TextMarshaler, json.Marshaler:
			return v
		case fmt.Stringer:
			return slog.StringValue(bounded(x.String()))
		}
	}
	return v
}

func bounded(s string) string {
	if len(s) <= maxLogValue {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:maxLogValue], ""), len(s))
}
