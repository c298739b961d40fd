package federation

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// bbolt's file format, version 2 (go.etcd.io/bbolt, internal/common/{page,meta}.go):
// pages, each with a header of 16 bytes; two of them say where the tree begins.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader    = 16 // id 8, flags 2, count 2, overflow 4
	pageElement   = 16 // of a branch: offset 4, key size 4, page 8; of a leaf: flags 4, offset 4, key size 4, value size 4
	metaSum       = 56 // offset of the checksum in the meta that follows the header
	bucketHeader  = 16 // root page 8, sequence 8; root 0: the page follows inline
	leafIsBucket  = 1
	maxTreeDepth  = 64
	maxBoltPage   = 64 << 10
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagFreelist  = 0x10
	freelistCount = 0xFFFF // the real count is the first entry
)

// tree is a bbolt file under examination.
type tree struct {
	b        []byte
	pageSize uint64
	limit    uint64          // the first page that is not in use
	used     map[uint64]bool // pages that belong to something
}

// checkTree reports what of a bbolt file is not as bbolt takes it for granted: a page
// that is missing, belongs to two, or is not what leads to it; an element outside of
// its page; keys out of order.
func checkTree(file []byte) error {
	root, freelist, t, err := newestMeta(file)
	if err != nil {
		return err
	}
	if t.limit*t.pageSize > uint64(len(file)) {
		return fmt.Errorf("it has %d bytes of %d", len(file), t.limit*t.pageSize)
	}
	if err := t.walk(root, nil, nil, 0); err != nil {
		return err
	}
	return t.walkFreelist(freelist)
}

// newestMeta returns what the meta page says that bbolt would use.
func newestMeta(file []byte) (root, freelist uint64, t *tree, err error) {
	var newest uint64
	err = errors.New("neither meta page is valid")
	le := binary.LittleEndian
	for _, pageSize := range []uint64{4096, 1024, 2048, 8192, 16384, 32768, maxBoltPage} {
		for i := range uint64(2) {
			at := i*pageSize + pageHeader
			if at+metaSum+8 > uint64(len(file)) {
				continue
			}
			meta := file[at:]
			sum := fnv.New64a()
			_, _ = sum.Write(meta[:metaSum]) // a hash takes everything
			txid := le.Uint64(meta[48:])
			if le.Uint32(meta) != boltMagic || le.Uint32(meta[4:]) != boltVersion || le.Uint64(meta[metaSum:]) != sum.Sum64() ||
				uint64(le.Uint32(meta[8:])) != pageSize || t != nil && txid < newest {
				continue
			}
			newest = txid
			root, freelist = le.Uint64(meta[16:]), le.Uint64(meta[32:])
			t = &tree{b: file, pageSize: pageSize, limit: min(le.Uint64(meta[40:]), 1<<40), used: map[uint64]bool{}}
		}
		if t != nil {
			return root, freelist, t, nil
		}
	}
	return 0, 0, nil, err
}

// page returns a page with its overflow and takes it.
func (t *tree) page(id uint64) (flags uint16, count int, page []byte, err error) {
	if id < 2 || id >= t.limit {
		return 0, 0, nil, fmt.Errorf("page %d: outside of the file", id)
	}
	le := binary.LittleEndian
	head := t.b[id*t.pageSize:]
	pages := uint64(le.Uint32(head[12:])) + 1
	if le.Uint64(head) != id || id+pages > t.limit {
		return 0, 0, nil, fmt.Errorf("page %d: its header is damaged", id)
	}
	for p := id; p < id+pages; p++ {
		if t.used[p] {
			return 0, 0, nil, fmt.Errorf("page %d: belongs to two", p)
		}
		t.used[p] = true
	}
	return le.Uint16(head[8:]), int(le.Uint16(head[10:])), head[:pages*t.pageSize], nil
}

// walk examines the subtree at page id, whose keys are at least low (when there is
// one) and below high.
func (t *tree) walk(id uint64, low, high []byte, depth int) error {
	flags, count, page, err := t.page(id)
	switch {
	case err != nil:
		return err
	case depth > maxTreeDepth:
		return fmt.Errorf("page %d: the tree is too deep", id)
	case flags == flagLeaf && (count > 0 || depth == 0):
		return t.walkLeaf(id, count, page, low, high)
	case flags != flagBranch || count == 0:
		return fmt.Errorf("page %d: no part of a tree", id)
	}
	keys := make([][]byte, count+1)
	for i := range count {
		at := pageHeader + i*pageElement
		if keys[i], _, err = element(page, at, 0, 4, -1); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	if err := ordered(keys[:count], low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	keys[count] = high
	for i := range count {
		child := binary.LittleEndian.Uint64(page[pageHeader+i*pageElement+8:])
		if err := t.walk(child, keys[i], keys[i+1], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// walkLeaf examines a leaf and the buckets in it.
func (t *tree) walkLeaf(id uint64, count int, page, low, high []byte) error {
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*pageElement
		key, value, err := element(page, at, 4, 8, 12)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		keys[i] = key
		switch flags := binary.LittleEndian.Uint32(page[at:]); {
		case flags == 0:
		case flags != leafIsBucket || len(value) < bucketHeader:
			return fmt.Errorf("page %d: an element of no known kind", id)
		default:
			if err := t.walkBucket(id, value); err != nil {
				return err
			}
		}
	}
	if err := ordered(keys, low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// walkBucket examines a bucket: a tree of its own, or a leaf within the value.
func (t *tree) walkBucket(id uint64, value []byte) error {
	le := binary.LittleEndian
	if root := le.Uint64(value); root != 0 {
		return t.walk(root, nil, nil, 0)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || le.Uint64(inline) != 0 || le.Uint16(inline[8:]) != flagLeaf || le.Uint32(inline[12:]) != 0 {
		return fmt.Errorf("page %d: a bucket in it is damaged", id)
	}
	count := int(le.Uint16(inline[10:]))
	for i := range count {
		if at := pageHeader + i*pageElement; at+4 > len(inline) || le.Uint32(inline[at:]) != 0 {
			return fmt.Errorf("page %d: a bucket in a bucket in it", id) // bbolt keeps those on pages of their own
		}
	}
	return t.walkLeaf(id, count, inline, nil, nil)
}

// walkFreelist examines the list of free pages: none of them may be in use.
func (t *tree) walkFreelist(id uint64) error {
	flags, count, page, err := t.page(id)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	ids := page[pageHeader:]
	n := uint64(count)
	if n == freelistCount {
		n = le.Uint64(ids)
		ids = ids[8:]
	}
	if flags != flagFreelist || n > uint64(len(ids))/8 {
		return fmt.Errorf("page %d: no list of free pages", id)
	}
	for last := uint64(1); n > 0; n, ids = n-1, ids[8:] {
		free := le.Uint64(ids)
		if free <= last || free >= t.limit || t.used[free] {
			return fmt.Errorf("page %d: lists page %d as free", id, free)
		}
		last = free
	}
	return nil
}

// element returns the key, and the value when it has a size (valueAt >= 0), of the
// element at page[at:]; the others say where in it its numbers are.
func element(page []byte, at, offsetAt, keyAt, valueAt int) (key, value []byte, err error) {
	if at+pageElement > len(page) {
		return nil, nil, errors.New("more elements than have room")
	}
	le := binary.LittleEndian
	start := uint64(at) + uint64(le.Uint32(page[at+offsetAt:]))
	end := start + uint64(le.Uint32(page[at+keyAt:]))
	last := end
	if valueAt >= 0 {
		last += uint64(le.Uint32(page[at+valueAt:]))
	}
	if start < uint64(at)+pageElement || last > uint64(len(page)) {
		return nil, nil, errors.New("an element outside of it")
	}
	return page[start:end], page[end:last], nil
}

// ordered reports keys that do not ascend within [low, high).
func ordered(keys [][]byte, low, high []byte) error {
	for i, k := range keys {
		below := low != nil && bytes.Compare(k, low) < 0
		above := high != nil && bytes.Compare(k, high) >= 0
		if below || above || len(k) == 0 || i > 0 && cmp.Compare(bytes.Compare(keys[i-1], k), 0) >= 0 {
			return errors.New("keys out of order")
		}
	}
	return nil
}
