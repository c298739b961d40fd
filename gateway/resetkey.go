package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

const (
	resetKeyFile = "reset.key"
	// resetKeyRetry is the time from one attempt to keep the key to the next.
	resetKeyRetry = 5 * time.Second
)

// resetKey is the key of QUIC's stateless resets (RFC 9000 section 10.3). With the
// same key after a restart, peers learn at once that their connections to the process
// before are dead. That is all it is for, so what is wrong with its file costs a
// warning and a new key.
type resetKey struct {
	key   [32]byte
	saver *state.Saver
}

// loadResetKey reads the key, and makes it when there is none.
func loadResetKey(path string, log *slog.Logger) *resetKey {
	k := &resetKey{}
	k.saver = state.NewSaver(state.SaverConfig{
		What: "the key of stateless resets", Interval: resetKeyRetry, Log: log,
		Write: func() error { return wholefile.Write(path, k.key[:], 0o600) },
	})
	b, err := os.ReadFile(path)
	if err == nil && len(b) == len(k.key) {
		k.key = [32]byte(b)
		return k
	}
	if err == nil {
		log.Warn("the key of stateless resets is damaged: a new one is made", "path", path, "bytes", len(b), "want", len(k.key))
	} else if !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the key of stateless resets cannot be read: a new one is made", "err", err)
	}
	_, _ = rand.Read(k.key[:]) // never fails, see crypto/rand
	k.saver.Changed()
	_ = k.saver.Save() // logged; Run tries it again
	return k
}

// Run keeps a key that could not be kept at once.
func (k *resetKey) Run(ctx context.Context) error {
	k.saver.Run(ctx)
	return nil
}
