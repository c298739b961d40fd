package gateway

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// loadResetKey reads the key of QUIC's stateless resets (RFC 9000 section 10.3), and
// makes it when there is none. With the same key after a restart, peers learn
// at once that their connections to the process before are dead. That is all it is
// for, so what is wrong with the file costs a warning and a new key.
func loadResetKey(path string, log *slog.Logger) (key [32]byte) {
	b, err := os.ReadFile(path)
	if err == nil && len(b) == len(key) {
		return [32]byte(b)
	}
	if err == nil {
		log.Warn("the key of stateless resets is damaged: a new one is made", "path", path, "bytes", len(b), "want", len(key))
	} else if !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the key of stateless resets cannot be read: a new one is made", "err", err)
	}
	_, _ = rand.Read(key[:]) // never fails, see crypto/rand
	if err := wholefile.Write(path, key[:], 0o600); err != nil {
		log.Warn("the key of stateless resets is not kept: after a restart peers find out by silence", "err", err)
	}
	return key
}
