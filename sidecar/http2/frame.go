package http2

import "encoding/binary"

// A frame, RFC 9113 §4.1:
//
//	length 24 | type 8 | flags 8 | reserved 1 | stream 31 | payload
const frameHeaderSize = 9

type frameType uint8

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameResetStream  frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

const (
	flagAck        = 0x1 // SETTINGS, PING
	flagEndStream  = 0x1 // DATA, HEADERS
	flagEndHeaders = 0x4 // HEADERS, CONTINUATION
	flagPadded     = 0x8 // DATA, HEADERS
	flagPriority   = 0x20
)

type frameHeader struct {
	length int
	typ    frameType
	flags  uint8
	stream uint32
}

func (h frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

// parseFrameHeader reads the header that b begins with; b holds one.
func parseFrameHeader(b []byte) frameHeader {
	_ = b[frameHeaderSize-1]
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    frameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
}

func appendFrameHeader(out []byte, length int, typ frameType, flags uint8, stream uint32) []byte {
	return append(out, byte(length>>16), byte(length>>8), byte(length), byte(typ), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// putFrameLength corrects the length of the header that b begins with.
func putFrameLength(b []byte, length int) {
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
}

func appendUint32Frame(out []byte, typ frameType, stream, value uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(out, 4, typ, 0, stream), value)
}

// unpad cuts padding and its length off a payload (RFC 9113 §6.1).
func unpad(h frameHeader, p []byte) ([]byte, error) {
	if !h.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, ErrFrameLength
	}
	pad := int(p[0])
	if pad >= len(p) {
		return nil, ErrPadding
	}
	return p[1 : len(p)-pad], nil
}
