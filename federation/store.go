package federation

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The buckets of the state file. Values are JSON, but for the epoch.
var (
	bucketSelf      = []byte("self")      // epoch: 8 bytes; keys: the gossip key ring
	bucketOrigins   = []byte("origins")   // GatewayID → savedOrigin
	bucketConfirmed = []byte("confirmed") // GatewayID → Unix seconds, 8 bytes
	bucketGateways  = []byte("gateways")  // GatewayID → savedGateway
	keyEpoch        = []byte("epoch")
	keyKeys         = []byte("keys")
)

// savedOrigin is what is kept of a catalog across restarts.
type savedOrigin struct {
	Floor catalog.Version `json:"floor"`
	// Delta is the whole state, nil when the origin has left or was forgotten.
	Delta     *catalog.Delta     `json:"delta,omitempty"`
	Signature identity.Signature `json:"signature"`
}

// savedGateway is where a gateway was last seen.
type savedGateway struct {
	Advertise   string    `json:"advertise"`    // as gossip said
	MeshAddress string    `json:"mesh_address"` // as it said itself, over a tunnel
	Seen        time.Time `json:"seen"`
}

// saved is the content of a state file.
type saved struct {
	Epoch     uint64
	Keys      keyring
	Origins   map[mesh.GatewayID]savedOrigin
	Confirmed map[mesh.GatewayID]time.Time
	Gateways  map[mesh.GatewayID]savedGateway
}

// store is the state file. The zero store keeps nothing. Its methods may be
// called concurrently.
type store struct{ db *bbolt.DB }

// openStore opens or makes the file and takes its lock. A file that is not a
// state file is moved aside: what it held can be learnt again.
func openStore(path string, log *slog.Logger) (*store, error) {
	if path == "" {
		return &store{}, nil
	}
	open := func() (*bbolt.DB, error) {
		return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	}
	db, err := open()
	switch {
	case err == nil:
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("state file %s is in use: does another gateway run here?", path)
	case errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrVersionMismatch) || errors.Is(err, berrors.ErrChecksum):
		log.Error("state file is damaged: moved aside, starting without", "path", path+".damaged", "err", err)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return nil, fmt.Errorf("move damaged state file aside: %w", err)
		}
		if db, err = open(); err != nil {
			return nil, fmt.Errorf("open state file: %w", err)
		}
	default:
		return nil, fmt.Errorf("open state file %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketSelf, bucketOrigins, bucketConfirmed, bucketGateways} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close() // the other error says more
		return nil, fmt.Errorf("prepare state file %s: %w", path, err)
	}
	return &store{db}, nil
}

// load reads everything. Entries that cannot be read are left out and logged:
// they can be learnt again.
func (s *store) load(log *slog.Logger) (*saved, error) {
	c := &saved{Origins: map[mesh.GatewayID]savedOrigin{}, Confirmed: map[mesh.GatewayID]time.Time{}, Gateways: map[mesh.GatewayID]savedGateway{}}
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
	err := s.db.View(func(tx *bbolt.Tx) error {
		self := tx.Bucket(bucketSelf)
		if b := self.Get(keyEpoch); len(b) == 8 {
			c.Epoch = binary.BigEndian.Uint64(b)
		}
		if b := self.Get(keyKeys); b != nil {
			var err error
			if c.Keys, err = decodeKeyring(b); err != nil {
				log.Warn("gossip keys of the state file left out", "err", err)
			}
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
				var g savedGateway
				err := json.Unmarshal(v, &g)
				if err == nil && len(g.Advertise) <= maxAddress && len(g.MeshAddress) <= maxAddress {
					c.Gateways[id] = g
				}
				return err
			}))
	})
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return c, nil
}

// saveEpoch writes this process's epoch; it must return before the epoch is used.
func (s *store) saveEpoch(epoch uint64) error {
	if s.db == nil {
		return nil
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketSelf).Put(keyEpoch, binary.BigEndian.AppendUint64(nil, epoch))
	})
	if err != nil {
		return fmt.Errorf("write epoch to the state file: %w", err)
	}
	return nil
}

// changes are what one transaction writes. A nil entry is deleted.
type changes struct {
	Keys      keyring // nil: unchanged
	Origins   map[mesh.GatewayID]*savedOrigin
	Confirmed map[mesh.GatewayID]time.Time
	Gateways  map[mesh.GatewayID]*savedGateway
}

func (c *changes) empty() bool {
	return c.Keys == nil && len(c.Origins) == 0 && len(c.Confirmed) == 0 && len(c.Gateways) == 0
}

// save writes changes, all or none.
func (s *store) save(c *changes) error {
	if s.db == nil || c.empty() {
		return nil
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if c.Keys != nil {
			if err := tx.Bucket(bucketSelf).Put(keyKeys, c.Keys.encode()); err != nil {
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
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}
