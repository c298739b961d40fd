package federation

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// gossipKeyBytes makes memberlist use AES-256.
const gossipKeyBytes = 32

// gossipKey is a key that gossip packets are encrypted with.
type gossipKey struct {
	Key []byte `json:"key"`
	// Created is when it was made, in Unix milliseconds. 0: made by a gateway that
	// expects to be given a better one by those it joins.
	Created int64 `json:"created"`
}

// keyring is a set of gossip keys, newest first. It is immutable.
type keyring []gossipKey

func newKey(created int64) gossipKey {
	k := gossipKey{Key: make([]byte, gossipKeyBytes), Created: created}
	rand.Read(k.Key)
	return k
}

func (k gossipKey) compare(o gossipKey) int {
	return cmp.Or(-cmp.Compare(k.Created, o.Created), bytes.Compare(k.Key, o.Key))
}

// union returns the newest maxKeys of both. As the greatest of a union it is
// commutative, associative and idempotent: gateways that have exchanged their
// rings, in whatever order, hold the same one.
func (r keyring) union(o keyring) keyring {
	u := slices.Concat(r, o)
	slices.SortFunc(u, gossipKey.compare)
	u = slices.CompactFunc(u, func(a, b gossipKey) bool { return bytes.Equal(a.Key, b.Key) })
	return u[:min(len(u), maxKeys)]
}

func (r keyring) equal(o keyring) bool {
	return slices.EqualFunc(r, o, func(a, b gossipKey) bool { return a.compare(b) == 0 })
}

func (r keyring) has(key []byte) bool {
	return slices.ContainsFunc(r, func(k gossipKey) bool { return bytes.Equal(k.Key, key) })
}

type keyringJSON struct {
	Keys keyring `json:"keys"`
}

func (r keyring) encode() []byte {
	b, err := json.Marshal(keyringJSON{r})
	if err != nil {
		panic(err) // a struct of bytes and an integer
	}
	return b
}

// decodeKeyring reads what encode wrote, from a peer or the state file.
func decodeKeyring(b []byte) (keyring, error) {
	if len(b) > maxKeysBytes {
		return nil, fmt.Errorf("key ring of %d bytes: at most %d", len(b), maxKeysBytes)
	}
	var j keyringJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	for _, k := range j.Keys {
		if len(k.Key) != gossipKeyBytes || k.Created < 0 {
			return nil, fmt.Errorf("key ring: a key has %d bytes (want %d) and was made at %d", len(k.Key), gossipKeyBytes, k.Created)
		}
	}
	return keyring(nil).union(j.Keys), nil
}

// gossipKeys are the keys that this gateway has. Guarded by Federation.mu.
type gossipKeys struct {
	ring    keyring
	number  uint64 // grows whenever ring changes
	primary gossipKey
	since   time.Time // when the newest key came
	unsaved bool
	list    *memberlist.Keyring // memberlist's copy; nil before it is created
}

// restore takes over the ring of the state file. Without one it makes a key: the
// first gateway that of the mesh, created at a time; who joins a mesh one that gives
// way to the mesh's.
func (k *gossipKeys) restore(was keyring, first bool, now time.Time) {
	if len(was) == 0 {
		var created int64
		if first {
			created = now.UnixMilli()
		}
		was, k.unsaved = keyring{newKey(created)}, true
	}
	k.ring, k.primary, k.since, k.number = was, was[0], now, 1
}

// forMemberlist makes memberlist's copy.
func (k *gossipKeys) forMemberlist() (*memberlist.Keyring, error) {
	var keys [][]byte
	for _, key := range k.ring {
		keys = append(keys, key.Key)
	}
	list, err := memberlist.NewKeyring(keys, k.primary.Key)
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	k.list = list
	return list, nil
}

// merge adds what another gateway holds and reports whether that changed anything.
func (k *gossipKeys) merge(more keyring, now time.Time, log *slog.Logger) bool {
	u, old := k.ring.union(more), k.ring
	if u.equal(old) {
		return false
	}
	if len(old) == 0 || old[0].compare(u[0]) != 0 {
		k.since = now
	}
	k.ring, k.unsaved = u, true
	k.number++
	if k.list != nil {
		for _, key := range u {
			_ = k.list.AddKey(key.Key) // its length was checked
		}
	}
	k.choose(now, log)
	if k.list != nil {
		for _, key := range old {
			if !u.has(key.Key) && key.compare(k.primary) != 0 {
				_ = k.list.RemoveKey(key.Key) // fails for the primary only
			}
		}
	}
	return true
}

// choose makes the newest key the one that packets are encrypted with, once all
// had the time to learn it. A key of ours that was only waiting for a better one
// gives way at once: nobody else need know it.
func (k *gossipKeys) choose(now time.Time, log *slog.Logger) {
	if len(k.ring) == 0 || k.ring[0].compare(k.primary) == 0 {
		return
	}
	if k.primary.Created != 0 && now.Sub(k.since) < keySettle {
		return
	}
	k.primary = k.ring[0]
	if k.list != nil {
		if err := k.list.UseKey(k.primary.Key); err != nil {
			log.Error("gossip key not changed", "err", err)
			return
		}
		for _, key := range k.list.GetKeys() {
			if !k.ring.has(key) {
				_ = k.list.RemoveKey(key)
			}
		}
	}
	log.Info("gossip key changed")
}

// takeUnsaved returns the ring if the state file does not hold it yet, once.
func (k *gossipKeys) takeUnsaved() keyring {
	if !k.unsaved {
		return nil
	}
	k.unsaved = false
	return k.ring
}

// mergeKeys adds what another gateway holds. It returns the ring and its number.
func (f *Federation) mergeKeys(more keyring) (keyring, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); f.keys.merge(more, now, f.log) {
		f.core.Apply(now, core.KeyRing{Number: f.keys.number})
		f.saver.Changed()
		f.changed.Notify()
	}
	return f.keys.ring, f.keys.number
}

// shareKeys gives a gateway our keys and takes its, unless it has the same.
func (f *Federation) shareKeys(ctx context.Context, to mesh.GatewayID) error {
	f.mu.Lock()
	tell, ring := f.core.MustTellKeys(to), f.keys.ring
	f.mu.Unlock()
	if !tell {
		return nil
	}
	theirs, err := f.client.shareKeys(ctx, to, ring)
	if err != nil {
		return err
	}
	if ours, number := f.mergeKeys(theirs); ours.equal(theirs) {
		f.apply(core.KeysTold{Gateway: to, Number: number})
	}
	return nil
}

// serveKeys takes a peer's gossip keys and gives ours.
func (f *Federation) serveKeys(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxKeysBytes+1))
	if err != nil {
		return
	}
	theirs, err := decodeKeyring(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// That the peer has ours is known when it answers us: before it has read this it
	// could not read our gossip.
	ours, _ := f.mergeKeys(theirs)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(ours.encode())
}

// shareKeys gives a gateway our keys and returns its.
func (c client) shareKeys(ctx context.Context, to mesh.GatewayID, ours keyring) (theirs keyring, err error) {
	err = c.request(ctx, to, http.MethodPost, pathKeys, ours.encode(), func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return answered(r)
		}
		b, err := io.ReadAll(io.LimitReader(r.Body, maxKeysBytes+1))
		if err != nil {
			return err
		}
		theirs, err = decodeKeyring(b)
		return err
	})
	return theirs, err
}
