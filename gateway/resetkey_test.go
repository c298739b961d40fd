package gateway

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAResetKeyOfAWrongLengthIsReplacedAndThenKept(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "reset.key")
	for _, damage := range [][]byte{{}, make([]byte, 31), make([]byte, 33), make([]byte, 1<<16)} {
		if err := os.WriteFile(path, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		made := loadResetKey(path, log)
		if made.key == [32]byte{} {
			t.Error("no key was made")
		}
		if again := loadResetKey(path, log); again.key != made.key {
			t.Error("the key that was made is not kept")
		}
	}
}

func TestAResetKeyThatCannotBeKeptServesAndIsKeptLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing", "reset.key")
		made := loadResetKey(path, slog.New(slog.DiscardHandler))
		if made.key == [32]byte{} || made.saver.Err() == nil {
			t.Errorf("key %x, error %v; want one that is not kept", made.key, made.saver.Err())
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- made.Run(ctx) }()
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * resetKeyRetry)
		if again := loadResetKey(path, slog.New(slog.DiscardHandler)); again.key != made.key || made.saver.Err() != nil {
			t.Errorf("the key is not kept once it can be: %v", made.saver.Err())
		}
		cancel()
		<-ended
	})
}
