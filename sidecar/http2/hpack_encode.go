package http2

import (
	"encoding/binary"
	"math/bits"
)

// encoder writes field blocks. A field is put into the table when it comes the second
// time, so that paths, identifiers and dates that never come again do not drive out
// what does; secrets never are (RFC 7541 §7.1.3). Strings are not compressed: what
// repeats is an index anyway, and between sidecars bytes are cheaper than bits.
type encoder struct {
	table  hpackTable
	update bool // the bound changed, which the next block tells
	anew   bool // and the table was emptied
	name   []byte
	value  []byte
	seen   [64]uint32 // hashes of fields that came once
}

func (e *encoder) init() { e.table.max = tableSize }

// limit takes in the peer's SETTINGS_HEADER_TABLE_SIZE. When it changes twice before a
// block, the lowest and the last have to be told (RFC 7541 §4.2): then we begin anew from
// 0, because x/net's decoder, which gRPC uses, takes a second update only when its
// table is empty.
func (e *encoder) limit(n uint32) {
	size := int(min(n, tableSize))
	if size == e.table.max {
		return
	}
	if e.update {
		e.anew = true
		e.table.setMax(0)
	}
	e.update = true
	e.table.setMax(size)
}

// begin appends what a block begins with.
func (e *encoder) begin(out []byte) []byte {
	if !e.update {
		return out
	}
	if e.anew {
		out = appendHpackInt(out, 0x20, 5, 0)
	}
	e.update, e.anew = false, false
	return appendHpackInt(out, 0x20, 5, e.table.max)
}

// field appends one field, whose name is in lower case.
func (e *encoder) field(out, name, value []byte) []byte {
	i := staticName(name)
	if i > 0 {
		if full := staticFull(i, value); full > 0 {
			return append(out, 0x80|byte(full))
		}
	}
	if secret(name) {
		out = appendHpackName(out, 0x10, 4, i, name)
		return appendHpackString(out, value)
	}
	hash := hashOf(name, value)
	if found := e.find(hash, name, value); found > 0 {
		return appendHpackInt(out, 0x80, 7, found)
	}
	size := len(name) + len(value) + hpackOverhead
	if last := &e.seen[hash%64]; *last != hash || size > e.table.max/4 {
		*last = hash
		out = appendHpackName(out, 0, 4, i, name)
		return appendHpackString(out, value)
	}
	e.table.add(name, value, hash)
	out = appendHpackName(out, 0x40, 6, i, name)
	return appendHpackString(out, value)
}

// staticFull returns the index of the static field with the value, given the first with
// the name; 0 without one.
func staticFull(i int, value []byte) int {
	last := i
	switch i {
	case 2, 4, 6:
		last = i + 1
	case 8:
		last = 14
	}
	for ; i <= last; i++ {
		if string(staticTable[i].value) == string(value) && len(value) > 0 {
			return i
		}
	}
	return 0
}

// find returns the index of a field in the table, 0 without one.
func (e *encoder) find(hash uint32, name, value []byte) int {
	t := &e.table
	for i := len(t.entries) - 1; i >= t.first; i-- {
		if t.entries[i].hash != hash {
			continue
		}
		back := len(t.entries) - 1 - i
		if n, v := t.at(back); string(n) == string(name) && string(v) == string(value) {
			return len(staticTable) + back
		}
	}
	return 0
}

// secret tells fields whose value must not be guessed by the length of what we send.
func secret(name []byte) bool {
	switch string(name) {
	case "authorization", "cookie", "set-cookie", "proxy-authorization":
		return true
	}
	return false
}

// hashOf is quick and no more: who makes two fields of one hash gains that we compare them.
func hashOf(name, value []byte) uint32 {
	h := mix(mix(uint64(len(name))<<32^uint64(len(value)), name), value)
	return uint32(h>>32) ^ uint32(h)
}

// mix folds b into h, eight bytes at a time; the last eight may overlap those before.
func mix(h uint64, b []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15
	last := uint64(0)
	switch n := len(b); {
	case n >= 8:
		for at := 0; at < n-8; at += 8 {
			hi, lo := bits.Mul64(h^binary.LittleEndian.Uint64(b[at:]), odd)
			h = hi ^ lo ^ h<<1
		}
		last = binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		last = uint64(binary.LittleEndian.Uint32(b))<<32 | uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		last = uint64(b[0])<<16 | uint64(b[n/2])<<8 | uint64(b[n-1])
	}
	hi, lo := bits.Mul64(h^last, odd)
	return hi ^ lo ^ h<<1
}

func appendHpackName(out []byte, first byte, prefix, index int, name []byte) []byte {
	out = appendHpackInt(out, first, prefix, index)
	if index > 0 {
		return out
	}
	return appendHpackString(out, name)
}

func appendHpackString(out, s []byte) []byte {
	return append(appendHpackInt(out, 0, 7, len(s)), s...)
}

func appendHpackInt(out []byte, first byte, prefix, v int) []byte {
	mask := 1<<prefix - 1
	if v < mask {
		return append(out, first|byte(v))
	}
	out = append(out, first|byte(mask))
	for v -= mask; v >= 0x80; v >>= 7 {
		out = append(out, byte(v)|0x80)
	}
	return append(out, byte(v))
}
