package federation

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The buckets of the state file. Values are JSON, but for the epoch.
var (
	bucketSelf      = []byte("self")      // epoch: 8 bytes
	bucketOrigins   = []byte("origins")   // GatewayID → savedOrigin
	bucketConfirmed = []byte("confirmed") // GatewayID → Unix seconds, 8 bytes
	bucketGateways  = []byte("gateways")  // GatewayID → core.KnownGateway
	keyEpoch        = []byte("epoch")
)

// savedOrigin is what is kept of a catalog across restarts.
type savedOrigin struct {
	Floor catalog.Version `json:"floor"`
	// Delta is the whole state, nil when the origin has left or was forgotten.
	Delta     *catalog.Delta     `json:"delta,omitempty"`
	Signature identity.Signature `json:"signature"`
	Signer    identity.Peer      `json:"signer"`
}

// saved is the content of a state file.
type saved struct {
	Epoch     uint64
	Origins   map[mesh.GatewayID]savedOrigin
	Confirmed map[mesh.GatewayID]time.Time
	Gateways  map[mesh.GatewayID]core.KnownGateway
}

// errDamaged is in the error of a transaction that met a damaged page.
var errDamaged = errors.New("the state file is damaged")

// store is the state file. The zero store keeps nothing. Its methods may be
// called concurrently.
type store struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	db   *bbolt.DB // nil: nothing is kept, or the file could not be made yet
	file *os.File  // what db works on
}

// openStore opens or makes the file and takes its lock. A file that is not a
// sound state file is moved aside: what it held can be learnt again. When there is
// no room for a new one, the store makes it at the first save that finds some.
func openStore(path string, log *slog.Logger) (*store, error) {
	s := &store{path: path, log: log}
	if path == "" {
		return s, nil
	}
	err := s.openLocked()
	if errors.Is(err, errDamaged) {
		err = s.renewLocked(err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		log.Error("there is no room for the state file: serving without, a restart will know less until there is", "path", path, "err", err)
		return s, nil
	}
	return s, err
}

// openLocked opens the file. Its error wraps errDamaged when the file is to be moved
// aside.
func (s *store) openLocked() error {
	fresh := false
	options := &bbolt.Options{OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		s.file, fresh, err = openSound(name, flag, mode)
		return s.file, err
	}}
	err := guarded(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, options)
		return err
	})
	if err != nil {
		s.db = nil
		if fresh {
			_ = os.Remove(s.path) // half a file, because the disk is full
		}
		return fmt.Errorf("open state file %s: %w", s.path, err)
	}
	err = guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			for _, b := range [][]byte{bucketSelf, bucketOrigins, bucketConfirmed, bucketGateways} {
				if _, err := tx.CreateBucketIfNotExists(b); err != nil {
					return fmt.Errorf("%w: %w", errDamaged, err)
				}
			}
			return nil
		})
	})
	if err != nil {
		s.abandonLocked()
		return fmt.Errorf("prepare state file %s: %w", s.path, err)
	}
	return nil
}

// openSound opens the file, takes its lock, and looks whether bbolt can work on it:
// on a damaged one it would panic, or loop. A fresh file is empty.
func openSound(name string, flag int, mode os.FileMode) (_ *os.File, fresh bool, err error) {
	file, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, false, err
	}
	content, err := func() ([]byte, error) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("it is in use: does another gateway run here?")
		}
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(file, maxStateFile+1))
	}()
	switch {
	case err != nil:
	case len(content) > maxStateFile:
		err = fmt.Errorf("%w: it is longer than %d bytes", errDamaged, maxStateFile)
	case len(content) > 0:
		if err = checkTree(content); err != nil {
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, false, err
	}
	return file, len(content) == 0, nil
}

// renewLocked moves the damaged file aside and makes a new one.
func (s *store) renewLocked(damage error) error {
	s.log.Error("state file is damaged: moved aside, starting without: what it held is learnt again", "path", s.path+".damaged", "err", damage)
	if err := os.Rename(s.path, s.path+".damaged"); err != nil {
		return fmt.Errorf("move damaged state file aside: %w", err)
	}
	if err := s.openLocked(); err != nil {
		return fmt.Errorf("open state file: %w", err)
	}
	return nil
}

// abandonLocked lets go of a database that cannot be closed well: a panic may have
// left its locks taken. Its memory map stays until the process ends.
func (s *store) abandonLocked() {
	_ = s.file.Close() // with its lock; what is in it is of no use
	s.db, s.file = nil, nil
}

// update runs f in a transaction and returns once it is on disk.
func (s *store) update(f func(*bbolt.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path == "" {
		return nil
	}
	if s.db == nil {
		err := s.openLocked()
		if errors.Is(err, errDamaged) {
			err = s.renewLocked(err)
		}
		if err != nil {
			return err
		}
		s.log.Info("there is a state file again", "path", s.path)
	}
	err := guarded(func() error { return s.db.Update(f) })
	if errors.Is(err, errDamaged) {
		s.abandonLocked()
		if failed := s.renewLocked(err); failed != nil {
			return failed
		}
	}
	return err
}

// guarded runs f. A panic in it is errDamaged, and so is a fault in memory that is
// mapped to a file: these are how bbolt meets a damaged page.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return f()
}

// load reads everything. Entries that cannot be read are left out and logged:
// they can be learnt again.
func (s *store) load(log *slog.Logger) (*saved, error) {
	c := &saved{Origins: map[mesh.GatewayID]savedOrigin{}, Confirmed: map[mesh.GatewayID]time.Time{}, Gateways: map[mesh.GatewayID]core.KnownGateway{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return c, nil
	}
	each := func(tx *bbolt.Tx, bucket []byte, read func(id mesh.GatewayID, v []byte) error) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			id, err := mesh.ParseGatewayID(string(k))
			if err == nil {
				err = read(id, v)
			}
			if err != nil {
				log.Warn("entry of the state file left out", "bucket", string(bucket), "key", string(k), "err", err)
			}
			return nil
		})
	}
	err := guarded(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			self := tx.Bucket(bucketSelf)
			if b := self.Get(keyEpoch); len(b) == 8 {
				c.Epoch = binary.BigEndian.Uint64(b)
			}
			return errors.Join(
				each(tx, bucketOrigins, func(id mesh.GatewayID, v []byte) error {
					var o savedOrigin
					err := json.Unmarshal(v, &o)
					if err == nil {
						c.Origins[id] = o
					}
					return err
				}),
				each(tx, bucketConfirmed, func(id mesh.GatewayID, v []byte) error {
					if len(v) != 8 {
						return errors.New("not 8 bytes")
					}
					c.Confirmed[id] = time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
					return nil
				}),
				each(tx, bucketGateways, func(id mesh.GatewayID, v []byte) error {
					var g core.KnownGateway
					err := json.Unmarshal(v, &g)
					if err == nil && len(g.Advertise) <= maxAddress && len(g.MeshAddress) <= maxAddress {
						c.Gateways[id] = g
					}
					return err
				}))
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return c, nil
}

// saveEpoch writes this process's epoch; it must return before the epoch is used.
// Its errors are those of save.
func (s *store) saveEpoch(epoch uint64) error {
	if err := s.update(func(tx *bbolt.Tx) error { return putEpoch(tx, epoch) }); err != nil {
		return fmt.Errorf("write epoch to the state file: %w", err)
	}
	return nil
}

func putEpoch(tx *bbolt.Tx, epoch uint64) error {
	return tx.Bucket(bucketSelf).Put(keyEpoch, binary.BigEndian.AppendUint64(nil, epoch))
}

// changes are what one transaction writes. A nil entry is deleted.
type changes struct {
	Epoch     uint64 // 0: unchanged
	Origins   map[mesh.GatewayID]*savedOrigin
	Confirmed map[mesh.GatewayID]time.Time
	Gateways  map[mesh.GatewayID]*core.KnownGateway
}

func (c *changes) empty() bool {
	return c.Epoch == 0 && len(c.Origins) == 0 && len(c.Confirmed) == 0 && len(c.Gateways) == 0
}

// save writes changes, all or none. After an error that wraps errDamaged the file is
// a new one: everything is to be saved again.
func (s *store) save(c *changes) error {
	if c.empty() {
		return nil
	}
	err := s.update(func(tx *bbolt.Tx) error {
		if c.Epoch != 0 {
			if err := putEpoch(tx, c.Epoch); err != nil {
				return err
			}
		}
		if err := putAll(tx.Bucket(bucketOrigins), c.Origins); err != nil {
			return err
		}
		for id, t := range c.Confirmed {
			if err := tx.Bucket(bucketConfirmed).Put([]byte(id.String()), binary.BigEndian.AppendUint64(nil, uint64(t.Unix()))); err != nil {
				return err
			}
		}
		for id, o := range c.Origins {
			if o == nil {
				if err := tx.Bucket(bucketConfirmed).Delete([]byte(id.String())); err != nil {
					return err
				}
			}
		}
		return putAll(tx.Bucket(bucketGateways), c.Gateways)
	})
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

func putAll[T any](b *bbolt.Bucket, m map[mesh.GatewayID]*T) error {
	for id, v := range m {
		key := []byte(id.String())
		if v == nil {
			if err := b.Delete(key); err != nil {
				return err
			}
			continue
		}
		j, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := b.Put(key, j); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the file and its lock back.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}
