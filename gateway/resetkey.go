package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// loadResetKey reads the key of QUIC's stateless resets (RFC 9000 §10.3), and
// makes it when there is none. With the same key after a restart, peers learn
// at once that their connections to the process before are dead.
func loadResetKey(path string) (key [32]byte, err error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, _ = rand.Read(key[:]) // never fails, see crypto/rand
		return key, writeFile(path, key[:])
	case err != nil:
		return key, err
	case len(b) != len(key):
		return key, fmt.Errorf("%s: %d bytes long instead of %d: remove it, a new one is made", path, len(b), len(key))
	}
	return [32]byte(b), nil
}

// writeFile writes a file so that a crash leaves it whole or absent.
func writeFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
