package http2

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// huffmanStep is what four bits do in a state of the decoder, which is an inner node of
// the code's tree: a code has five bits at least, so that they complete one symbol at most.
type huffmanStep struct {
	next   uint8
	symbol byte
	flags  uint8
}

const (
	huffmanEmits = 1 << iota // a symbol is complete
	huffmanFails             // the code of EOS (RFC 7541 §5.2)
	huffmanEnds              // behind it a string may end: less than a byte of ones
)

// huffmanSteps is the code of RFC 7541 appendix B by state and four bits. Nothing writes
// it after start.
var huffmanSteps = newHuffmanSteps()

func newHuffmanSteps() *[256][16]huffmanStep {
	type node struct {
		children [2]int16 // -1-symbol: a leaf; 0: none
		ends     bool
	}
	nodes := make([]node, 1, 256)
	nodes[0].ends = true
	for symbol := range 256 {
		// Eight of the same symbol are as many bytes as its code has bits.
		code := hpack.AppendHuffmanString(nil, string(bytes.Repeat([]byte{byte(symbol)}, 8)))
		at := int16(0)
		for i := range len(code) {
			bit := code[i/8] >> (7 - i%8) & 1
			to := &nodes[at].children[bit]
			if i == len(code)-1 {
				*to = int16(-1 - symbol)
				break
			}
			if *to == 0 {
				*to = int16(len(nodes))
				nodes = append(nodes, node{ends: nodes[at].ends && bit == 1 && i < 7})
			}
			at = nodes[at].children[bit]
		}
	}
	steps := new([256][16]huffmanStep)
	for state := range nodes {
		for bits := range 16 {
			step, at := huffmanStep{}, int16(state)
			for shift := 3; shift >= 0; shift-- {
				at = nodes[at].children[bits>>shift&1]
				if at == 0 {
					step.flags = huffmanFails
					break
				}
				if at < 0 {
					step.symbol, step.flags, at = byte(-1-at), huffmanEmits, 0
				}
			}
			if nodes[at].ends && step.flags != huffmanFails {
				step.flags |= huffmanEnds
			}
			step.next = uint8(at)
			steps[state][bits] = step
		}
	}
	return steps
}

// appendHuffman appends what b stands for; false: it stands for nothing.
func appendHuffman(dst, b []byte) ([]byte, bool) {
	step := huffmanStep{flags: huffmanEnds}
	for _, c := range b {
		for _, bits := range [2]byte{c >> 4, c & 0xf} {
			step = huffmanSteps[step.next][bits]
			if step.flags&huffmanEmits != 0 {
				dst = append(dst, step.symbol)
			} else if step.flags&huffmanFails != 0 {
				return dst, false
			}
		}
	}
	return dst, step.flags&huffmanEnds != 0
}
