package bundles

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatSidecarsRefuseDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := New(nil, slog.New(slog.NewTextHandler(&log, nil)))
		st := &stream{log: s.log}
		for i := range 10_000 {
			s.hear(st, Sidecar{Refused: strconv.Itoa(i)})
		}
		time.Sleep(time.Minute)
		s.hear(st, Sidecar{Refused: "late"})
		if n := strings.Count(log.String(), "\n"); n != maxLines+1 || !strings.Contains(log.String(), "late") {
			t.Errorf("10,000 refusals are %d lines, want %d, and then the next one again", n, maxLines)
		}
	})
}
