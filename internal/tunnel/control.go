package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// alpn names the protocol of the package comment.
const alpn = "isthmus/1"

// incarnation tells one process of a gateway from the next.
type incarnation [16]byte

// frameType says what a control frame means.
type frameType uint8

const (
	frameHello   frameType = 1
	frameLeaving frameType = 2
	frameDone    frameType = 3
	frameReplace frameType = 4
	frameRetire  frameType = 5
)

const (
	helloVersion = 1                      // greater ones say the same and more: what cannot be understood has another ALPN
	helloSize    = 1 + len(incarnation{}) // version, incarnation
	// maxFrame bounds a frame's payload; a peer that sends more is broken.
	maxFrame = 1024
)

// errHello says that the peer's first control frame was not a hello of ours.
var errHello = errors.New("the peer does not speak isthmus/1: check that both gateways run compatible versions")

// appendFrame appends a control frame to b.
func appendFrame(b []byte, t frameType, payload []byte) []byte {
	b = append(b, byte(t))
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

// hello is the first frame of an end.
func hello(i incarnation) []byte {
	return appendFrame(nil, frameHello, append([]byte{helloVersion}, i[:]...))
}

// readFrame reads one control frame. buf is where the payload goes; it holds
// maxFrame bytes.
func readFrame(r io.Reader, buf []byte) (frameType, []byte, error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(head[1:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("control frame of %d bytes is longer than %d", n, maxFrame)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return frameType(head[0]), buf[:n], nil
}

// readHello reads the first frame of the other end.
func readHello(r io.Reader) (incarnation, error) {
	var buf [maxFrame]byte
	t, payload, err := readFrame(r, buf[:])
	if err != nil {
		return incarnation{}, err
	}
	if t != frameHello || len(payload) < helloSize || payload[0] < helloVersion {
		return incarnation{}, errHello
	}
	return incarnation(payload[1:helloSize]), nil
}
