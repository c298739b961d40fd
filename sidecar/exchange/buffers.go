package exchange

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// buffers are what a busy connection needs and an idle one gives back.
type buffers struct {
	in   []byte // read from the client
	back []byte // read from upstream
	out  []byte // heads on their way, with what goes along
	id   [36]byte
	x    exchange
	req  http1.Request
	resp http1.Response

	question question // of the policy, about req
}

var bufferPool = sync.Pool{New: func() any {
	return &buffers{
		in:   make([]byte, clientBuffer),
		back: make([]byte, backBuffer),
		out:  make([]byte, 0, backBuffer+4<<10),
	}
}}

func takeBuffers() *buffers { return bufferPool.Get().(*buffers) }

func (m *buffers) release() {
	if len(m.in) > clientBuffer {
		m.in = make([]byte, clientBuffer) // it had to grow for one head
	}
	if m.out == nil || cap(m.out) > 4*backBuffer {
		m.out = make([]byte, 0, backBuffer+4<<10)
	}
	if m.back == nil || len(m.back) > 2*backBuffer {
		m.back = make([]byte, backBuffer)
	}
	m.x = exchange{}
	m.question = question{path: m.question.path[:0]}
	bufferPool.Put(m)
}
