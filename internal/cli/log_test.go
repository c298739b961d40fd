package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAJSONLogSaysAddressesAndDurationsAsPeopleWriteThem(t *testing.T) {
	var b bytes.Buffer
	log, _ := newLogger(config.Log{Format: config.LogJSON}, &b)
	log.Info("hello",
		"addr", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}, "port", netip.MustParseAddrPort("[::1]:80"), "after", 1500*time.Millisecond,
		"gateway", mesh.GatewayID{Cluster: "east", Name: "east-1"}, "err", errors.New("refused"), "n", 7, slog.Group("g", "d", time.Second))
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"addr": "127.0.0.1:80", "port": "[::1]:80", "after": "1.5s", "gateway": "east/east-1", "err": "refused", "n": 7.0, "level": "INFO"} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if g := got["g"].(map[string]any); g["d"] != "1s" {
		t.Errorf("in a group: %v", g)
	}
	if _, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil {
		t.Error(err)
	}
}

func TestAValueInALogLineIsBounded(t *testing.T) {
	for _, format := range []config.LogFormat{config.LogText, config.LogJSON} {
		var b bytes.Buffer
		long := strings.Repeat("x", 1<<20)
		log, _ := newLogger(config.Log{Format: format}, &b)
		log.Warn(long, "err", errors.New(long), "text", long)
		if b.Len() > 4*maxLogValue || !strings.Contains(b.String(), "(1048576 bytes)") {
			t.Errorf("%s: a line of %d bytes", format, b.Len())
		}
	}
}

// lasting runs until its context ends.
type lasting struct{}

func (lasting) Run(ctx context.Context) error    { <-ctx.Done(); return nil }
func (lasting) Shutdown(_ context.Context) error { return nil }

func TestTheLastLineOfALogSaysThatTheProcessStopped(t *testing.T) {
	var b bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log, _ := newLogger(config.Log{}, &b)
	if err := runUntilSignal(ctx, "gateway", lasting{}, func() time.Duration { return time.Second }, log); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `msg="gateway stopped"`) {
		t.Error(last)
	}
}
