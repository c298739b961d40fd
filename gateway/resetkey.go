package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// loadResetKey reads the key of QUIC's stateless resets (RFC 9000 §10.3), and
// makes it when there is none. With the same key after a restart, peers learn
// at once that their connections to the process before are dead.
func loadResetKey(path string) (key [32]byte, err error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, _ = rand.Read(key[:]) // never fails, see crypto/rand
		return key, wholefile.Write(path, key[:], 0o600)
	case err != nil:
		return key, err
	case len(b) != len(key):
		return key, fmt.Errorf("%s: %d bytes long instead of %d: remove it, a new one is made", path, len(b), len(key))
	}
	return [32]byte(b), nil
}
