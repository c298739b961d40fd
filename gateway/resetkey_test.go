package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestAResetKeyOfAWrongLengthIsReplacedAndThenKept(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "reset.key")
	for _, damage := range [][]byte{{}, make([]byte, 31), make([]byte, 33), make([]byte, 1<<16)} {
		if err := os.WriteFile(path, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		key := loadResetKey(path, log)
		if key == [32]byte{} {
			t.Error("no key was made")
		}
		if again := loadResetKey(path, log); again != key {
			t.Error("the key that was made is not kept")
		}
	}
}

func TestAResetKeyThatCannotBeKeptIsNoReasonNotToServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "reset.key")
	if key := loadResetKey(path, slog.New(slog.DiscardHandler)); key == [32]byte{} {
		t.Error("no key was made")
	}
}
