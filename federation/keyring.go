package federation

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
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
