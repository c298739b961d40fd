package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrStateInUse is in the error of [ClaimState] and [CheckState] when another
// process of the same role holds the directory.
var ErrStateInUse = errors.New("is held by another process of this kind")

// ClaimState creates the state directory dir when it is missing and holds it
// for this process until release is called or the process ends, however it
// ends. One gateway and one sidecar may share a directory; two of a kind may
// not, because each would overwrite what the other remembers.
func ClaimState(dir string, role Role) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, stateError(dir, err)
	}
	lock, err := lockState(dir, role, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, stateError(dir, err)
	}
	return lock.Close, nil
}

// CheckState reports why [ClaimState] would fail. It leaves nothing changed: where
// the directory is missing it makes another in its place and removes that.
func CheckState(dir string, role Role) error {
	lock, err := lockState(dir, role, os.O_RDWR)
	if err == nil {
		return lock.Close()
	}
	if !errors.Is(err, os.ErrNotExist) {
		return stateError(dir, err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); errors.Is(err, os.ErrNotExist) && at != filepath.Dir(at) {
			continue
		} else if err != nil {
			return stateError(dir, err)
		}
		info, err := os.Stat(at)
		if err != nil {
			return stateError(dir, fmt.Errorf("%s leads nowhere", at))
		}
		if !info.IsDir() {
			return stateError(dir, fmt.Errorf("%s is no directory", at))
		}
		made, err := os.MkdirTemp(at, ".isthmus-check-")
		if err != nil {
			return stateError(dir, err)
		}
		return os.Remove(made)
	}
}

// lockState opens the role's lock file. The lock goes with the descriptor, so
// it never outlives the process.
func lockState(dir string, role Role, flag int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, string(role)+".lock"), flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrStateInUse
		}
		return nil, err
	}
	return f, nil
}

func stateError(dir string, err error) error {
	if errors.Is(err, ErrStateInUse) {
		return fmt.Errorf("state directory %s %w: give each its own with `state:`", dir, err)
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("state directory %s may not be written by this user: write another with `state:`, such as state: ./state", dir)
	}
	return fmt.Errorf("state directory %s: %w: write another with `state:`", dir, err)
}
