package ca

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// usedTokens is the memory of which tokens were used, and by which key: a file to which
// a line is appended, and on disk, before a token is good for anything.
//
//	used SERIAL EXPIRES KEY   a token; Unix seconds; SHA-256 of the key that used it, in hex
//	floor TIME                tokens made before are refused: a file was damaged then
//
// A line that is cut off at the end was of a token that nobody was granted. Any other
// that cannot be read may have been anybody's: then all tokens made until now are refused.
// Its methods may be called concurrently.
type usedTokens struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	used  map[string]use // by serial
	floor time.Time
	file  *os.File // nil: it could not be opened again
	size  int64    // of what is whole in file
	fault error    // of the last write
}

type use struct {
	expires time.Time
	key     [sha256.Size]byte
}

// maxUsedFile bounds the file, in bytes: a million tokens.
const maxUsedFile = 160 << 20

// errTokenUsed is in the error of a claim of a token that is another key's.
var errTokenUsed = errors.New("it was used before, by another key: each is good for one process, so make another; if you did not use it, somebody else has its certificate now")

// openUsedTokens reads the file, which it makes when it is missing, and writes it anew
// without what is forgotten.
func openUsedTokens(path string, now time.Time, log *slog.Logger) (*usedTokens, error) {
	u := &usedTokens{path: path, log: log, used: make(map[string]use)}
	if err := u.load(now); err != nil {
		return nil, fmt.Errorf("used tokens: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fault = u.rewriteLocked(now); u.fault != nil {
		log.Error("used tokens cannot be written down: no token is taken until they can", "err", u.fault)
	}
	return u, nil
}

// load reads the file.
func (u *usedTokens) load(now time.Time) error {
	f, err := os.Open(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUsedFile))
	if err != nil {
		return err
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	u.size = int64(len(whole))
	damaged := len(b) == maxUsedFile
	for line := range strings.Lines(string(whole)) {
		if !u.read(strings.TrimSuffix(line, "\n")) {
			damaged = true
		}
	}
	if damaged {
		u.floor = now
		u.log.Error("the memory of used tokens is damaged: tokens made before now are refused, make others", "file", u.path)
	}
	return nil
}

// read takes in one line.
func (u *usedTokens) read(line string) bool {
	kind, rest, _ := strings.Cut(line, " ")
	f := strings.Split(rest, " ")
	switch {
	case kind == "floor" && len(f) == 1:
		at, err := strconv.ParseInt(f[0], 10, 64)
		if t := time.Unix(at, 0); err == nil && t.After(u.floor) {
			u.floor = t
		}
		return err == nil
	case kind == "used" && len(f) == 3 && f[0] != "":
		at, err := strconv.ParseInt(f[1], 10, 64)
		key, err2 := hex.DecodeString(f[2])
		if err != nil || err2 != nil || len(key) != sha256.Size {
			return false
		}
		if _, known := u.used[f[0]]; !known { // the first has it
			u.used[f[0]] = use{time.Unix(at, 0), [sha256.Size]byte(key)}
		}
		return true
	}
	return false
}

func (e use) line(serial string) string {
	return fmt.Sprintf("used %s %d %s\n", serial, e.expires.Unix(), hex.EncodeToString(e.key[:]))
}

// claim binds a token to a key (its SubjectPublicKeyInfo), on disk. It may be claimed
// again with the same key. Its error wraps errTokenUsed when it is another's; any other
// says why nothing can be written down.
func (u *usedTokens) claim(t *identity.Token, spki []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := sha256.Sum256(spki)
	if e, ok := u.used[t.Serial]; ok {
		if e.key != key {
			return fmt.Errorf("token: %w", errTokenUsed)
		}
		return nil
	}
	if t.Issued.Before(u.floor) {
		return fmt.Errorf("token: it was made before %s, when this CA lost its memory of those that were used: make another: %w",
			u.floor.UTC().Format(time.RFC3339), errTokenUsed)
	}
	e := use{t.Expires, key}
	if err := u.appendLocked(e.line(t.Serial)); err != nil {
		u.fault = err
		return fmt.Errorf("used tokens: %w", err)
	}
	u.fault = nil
	u.used[t.Serial] = e
	return nil
}

// appendLocked puts a line on disk, whole or not at all.
func (u *usedTokens) appendLocked(line string) error {
	if u.file == nil {
		if err := u.openLocked(); err != nil {
			return err
		}
	}
	_, err := u.file.WriteString(line)
	if err == nil {
		err = u.file.Sync()
	}
	if err == nil {
		u.size += int64(len(line))
		return nil
	}
	// What may be there of the line, and what the disk has of it, is not known: begin anew
	// with the next.
	err = errors.Join(err, u.file.Truncate(u.size), u.file.Close())
	u.file = nil
	return err
}

// openLocked opens the file to append to it, cut to what is whole, with its name on disk.
func (u *usedTokens) openLocked() error {
	f, err := os.OpenFile(u.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(u.path))
	if err == nil {
		err = errors.Join(f.Truncate(u.size), f.Sync(), dir.Sync(), dir.Close())
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	u.file = f
	return nil
}

// rewriteLocked replaces the file by one without the tokens that ended long ago.
func (u *usedTokens) rewriteLocked(now time.Time) error {
	var b bytes.Buffer
	if !u.floor.IsZero() {
		fmt.Fprintf(&b, "floor %d\n", u.floor.Add(time.Second-1).Unix()) // up: what was made in this second may have been used
	}
	for serial, e := range u.used {
		if now.Sub(e.expires) > forgetAfter {
			delete(u.used, serial)
			continue
		}
		b.WriteString(e.line(serial))
	}
	if err := wholefile.Write(u.path, b.Bytes(), 0o600); err != nil {
		return err
	}
	if u.file != nil {
		_ = u.file.Close() // all of it is in the new one
		u.file = nil
	}
	u.size = int64(b.Len())
	return u.openLocked()
}

// tidy forgets tokens that ended long ago.
func (u *usedTokens) tidy(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	old := false
	for _, e := range u.used {
		old = old || now.Sub(e.expires) > forgetAfter
	}
	if !old {
		return
	}
	if err := u.rewriteLocked(now); err != nil {
		u.fault = err
		u.log.Error("used tokens cannot be written down: no token is taken until they can", "err", err)
		return
	}
	u.fault = nil
}

// err returns why used tokens cannot be written down; nil: they can.
func (u *usedTokens) err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fault
}

// count returns how many are remembered.
func (u *usedTokens) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.used)
}

func (u *usedTokens) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file != nil {
		_ = u.file.Close() // every line is on disk
		u.file = nil
	}
}
