package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The part of MessagePack that memberlist's messages are written in: maps whose keys
// are strings and whose values are numbers, truth values and byte strings. There is no
// nesting. As memberlist does, strings and bytes are written alike, as "raw" of the
// first version of MessagePack.

const (
	// maxFields bounds the fields of a map. memberlist's largest has eight; there may
	// be new ones, which are skipped.
	maxFields = 16
	// maxBytes bounds a byte string: memberlist's NodeMeta has at most 512 bytes, an
	// error's text may have some more.
	maxBytes = 1024
)

var errValue = errors.New("not a number, a truth value or bytes")

// source is what messages are read from.
type source interface {
	io.Reader
	io.ByteReader
}

// value is the value of a field: one of number and bytes, the other is zero. A truth
// value is the number 0 or 1; nil is both zero.
type value struct {
	number uint64
	bytes  []byte
}

// readUint reads an unsigned number of so many bytes, big endian.
func readUint(r source, size int) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[8-size:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// readMap reads a map and hands each field to set.
func readMap(r source, set func(key string, v value) error) error {
	b, err := r.ReadByte()
	if err != nil {
		return err
	}
	var n uint64
	switch {
	case b&0xf0 == 0x80:
		n = uint64(b & 0x0f)
	case b == 0xde:
		if n, err = readUint(r, 2); err != nil {
			return err
		}
	default:
		return fmt.Errorf("0x%02x begins no map", b)
	}
	if n > maxFields {
		return fmt.Errorf("map of %d fields: at most %d", n, maxFields)
	}
	for range n {
		key, err := readValue(r)
		if err != nil {
			return err
		}
		v, err := readValue(r)
		if err != nil {
			return err
		}
		if err := set(string(key.bytes), v); err != nil {
			return fmt.Errorf("%q: %w", key.bytes, err)
		}
	}
	return nil
}

func readValue(r source) (value, error) {
	b, err := r.ReadByte()
	if err != nil {
		return value{}, err
	}
	switch {
	case b <= 0x7f:
		return value{number: uint64(b)}, nil
	case b&0xe0 == 0xa0:
		return readBytes(r, uint64(b&0x1f))
	}
	switch b {
	case 0xc0, 0xc2: // nil, false
		return value{}, nil
	case 0xc3: // true
		return value{number: 1}, nil
	case 0xcc, 0xcd, 0xce, 0xcf: // unsigned, of 1, 2, 4 and 8 bytes
		n, err := readUint(r, 1<<(b-0xcc))
		return value{number: n}, err
	case 0xd0, 0xd1, 0xd2, 0xd3: // signed
		size := 1 << (b - 0xd0)
		n, err := readUint(r, size)
		if err == nil && n>>(8*size-1) != 0 {
			return value{}, errors.New("a negative number")
		}
		return value{number: n}, err
	case 0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb: // bytes and strings, with a length of 1, 2 and 4 bytes
		size := map[byte]int{0xc4: 1, 0xd9: 1, 0xc5: 2, 0xda: 2, 0xc6: 4, 0xdb: 4}[b]
		n, err := readUint(r, size)
		if err != nil {
			return value{}, err
		}
		return readBytes(r, n)
	}
	return value{}, errValue
}

func readBytes(r source, n uint64) (value, error) {
	if n > maxBytes {
		return value{}, fmt.Errorf("%d bytes: at most %d", n, maxBytes)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return value{bytes: b}, err
}

func appendMap(b []byte, fields int) []byte { return append(b, 0x80|byte(fields)) }

// appendRaw appends bytes or a string; a key is one.
func appendRaw[T string | []byte](b []byte, v T) []byte {
	if len(v) <= 31 {
		b = append(b, 0xa0|byte(len(v)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(v)))
	}
	return append(b, v...)
}

func appendUint(b []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xce), n)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}
