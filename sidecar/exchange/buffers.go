package exchange

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// buffers are what a busy connection needs and an idle one gives back.
type buffers struct {
	sizes   [3]int // of in, back and out, at first
	in      []byte // read from the client
	back    []byte // read from upstream
	out     []byte // heads on their way, with what goes along
	id      [36]byte
	timeout [9]byte // grpc-timeout
	x       exchange
	req     http1.Request
	resp    http1.Response

	stream hostStream // of an attempt that has one

	question question // of the policy, about req
	asked    asked    // of the rules, likewise
}

// bufferPool is for connections, streamPool for streams, of which there are many.
var (
	bufferPool = sync.Pool{New: func() any { return newBuffers(clientBuffer, backBuffer, backBuffer+4<<10) }}
	streamPool = sync.Pool{New: func() any { return newBuffers(streamBuffer, streamBuffer, streamBuffer) }}
)

func newBuffers(in, back, out int) *buffers {
	return &buffers{sizes: [3]int{in, back, out}, in: make([]byte, in), back: make([]byte, back), out: make([]byte, 0, out)}
}

func takeBuffers() *buffers       { return bufferPool.Get().(*buffers) }
func takeStreamBuffers() *buffers { return streamPool.Get().(*buffers) }

// limit is how large a buffer is kept. Streams grow theirs often: they begin small.
func (m *buffers) limit(i int) int {
	if m.sizes[0] == streamBuffer {
		return maxGrown * m.sizes[i]
	}
	return [...]int{clientBuffer, 2 * backBuffer, 4 * backBuffer}[i]
}

func (m *buffers) release() {
	if len(m.in) > m.limit(0) {
		m.in = make([]byte, m.sizes[0]) // it had to grow for one head
	}
	if m.back == nil || len(m.back) > m.limit(1) {
		m.back = make([]byte, m.sizes[1])
	}
	if m.out == nil || cap(m.out) > m.limit(2) {
		m.out = make([]byte, 0, m.sizes[2])
	}
	m.x = exchange{}
	m.question = question{path: m.question.path[:0]}
	m.asked = asked{path: m.asked.path[:0]}
	if m.sizes[0] == streamBuffer {
		streamPool.Put(m)
		return
	}
	bufferPool.Put(m)
}
