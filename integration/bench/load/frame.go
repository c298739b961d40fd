package load

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2/hpack"
)

// The frames of RFC 9113 §6 that are used here, and their flags.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoaway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize     = 0x1
	settingPush          = 0x2
	settingMaxStreams    = 0x3
	settingInitialWindow = 0x4
)

const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeadSize = 9
	defaultWindow = 65535   // bytes
	streamWindow  = 1 << 20 // bytes: that of each stream of ours
	connWindow    = 1 << 30 // bytes: that of a connection of ours; given back by halves
	maxStreams    = 1000    // that the origin serves at a time on a connection
	ourTableSize  = 4096    // bytes
)

// frame is one frame.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// nextFrame returns the first frame in b and how long it is: 0 when it is not whole.
func nextFrame(b []byte) (frame, int) {
	if len(b) < frameHeadSize {
		return frame{}, 0
	}
	n := frameHeadSize + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
	if len(b) < n {
		return frame{}, 0
	}
	return frame{kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), payload: b[frameHeadSize:n]}, n
}

// content returns the payload without padding and priority.
func (f frame) content() ([]byte, error) {
	b := f.payload
	if f.flags&flagPadded != 0 {
		if len(b) == 0 || int(b[0]) >= len(b) {
			return nil, fmt.Errorf("bad padding of stream %d", f.stream)
		}
		b = b[1 : len(b)-int(b[0])]
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		if len(b) < 5 {
			return nil, fmt.Errorf("bad priority of stream %d", f.stream)
		}
		b = b[5:]
	}
	return b, nil
}

func appendFrame(out []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	out = binary.BigEndian.AppendUint32(out, stream)
	return append(out, payload...)
}

func appendWindowUpdate(out []byte, stream, n uint32) []byte {
	return appendFrame(out, frameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, n))
}

// appendHello appends the SETTINGS of one side, and a window for the whole connection.
func appendHello(out []byte) []byte {
	var s []byte
	for _, setting := range [][2]uint32{{settingPush, 0}, {settingMaxStreams, maxStreams}, {settingInitialWindow, streamWindow}} {
		s = binary.BigEndian.AppendUint16(s, uint16(setting[0]))
		s = binary.BigEndian.AppendUint32(s, setting[1])
	}
	out = appendFrame(out, frameSettings, 0, 0, s)
	return appendWindowUpdate(out, 0, connWindow-defaultWindow)
}

// link is what both sides of a connection have in common.
type link struct {
	settled   bool // the peer has sent its SETTINGS
	tableSize uint32
	streams   uint32 // that the peer serves at a time
	window    int    // that the peer gave for the connection
	perStream int    // and for each stream
	received  int    // not given back yet
}

func newLink() link {
	return link{tableSize: ourTableSize, streams: 1 << 31, window: defaultWindow, perStream: defaultWindow}
}

// control serves the frames that belong to the connection; others are not its own.
func (l *link) control(f frame, out *[]byte) (own bool, err error) {
	switch f.kind {
	case frameSettings:
		if f.flags&flagAck != 0 {
			return true, nil
		}
		for b := f.payload; len(b) >= 6; b = b[6:] {
			value := binary.BigEndian.Uint32(b[2:])
			switch binary.BigEndian.Uint16(b) {
			case settingTableSize:
				l.tableSize = min(l.tableSize, value)
			case settingMaxStreams:
				l.streams = value
			case settingInitialWindow:
				l.perStream = int(value)
			}
		}
		l.settled = true
		*out = appendFrame(*out, frameSettings, flagAck, 0, nil)
	case framePing:
		if f.flags&flagAck == 0 {
			*out = appendFrame(*out, framePing, flagAck, 0, f.payload)
		}
	case frameWindowUpdate:
		if len(f.payload) != 4 {
			return true, fmt.Errorf("WINDOW_UPDATE of %d bytes", len(f.payload))
		}
		if f.stream == 0 {
			l.window += int(binary.BigEndian.Uint32(f.payload))
		}
	case frameGoaway:
		return true, fmt.Errorf("GOAWAY %.200q", f.payload)
	case frameContinuation:
		return true, fmt.Errorf("a head in several frames")
	case frameData, frameHeaders, frameReset:
		return false, nil
	}
	return true, nil
}

// giveBack returns the connection's window for n bytes of DATA.
func (l *link) giveBack(n int, out *[]byte) {
	if l.received += n; l.received >= connWindow/2 {
		*out = appendWindowUpdate(*out, 0, uint32(l.received))
		l.received = 0
	}
}

// heads encodes the same head again and again: the first time with its fields
// for the peer's table, then as indices into it.
type heads struct{ first, further []byte }

func encodeHeads(tableSize uint32, fields []hpack.HeaderField) heads {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSizeLimit(tableSize)
	encode := func() []byte {
		b.Reset()
		for _, f := range fields {
			_ = e.WriteField(f) // into memory
		}
		return bytes.Clone(b.Bytes())
	}
	return heads{encode(), encode()}
}

// next returns the head to send.
func (h *heads) next() []byte {
	b := h.first
	h.first = h.further
	return b
}
