// Package wholefile replaces files so that no reader and no crash finds half of
// one.
package wholefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Write replaces the file at path: what is there stays until all of data is on
// disk. The new file is written beside it as path.new, one name for all
// attempts, because a process that is killed here again and again must not fill
// the directory; so one path has one writer at a time. It is readable by its
// owner only until it is complete. The error names the path.
func Write(path string, data []byte, mode fs.FileMode) error {
	next := path + ".new"
	if err := write(next, data, mode); err != nil {
		_ = os.Remove(next) // the first error says why
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		_ = os.Remove(next)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func write(path string, data []byte, mode fs.FileMode) error {
	// Made anew and not followed anywhere: in a directory that others may write
	// to, theirs could lie here.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
