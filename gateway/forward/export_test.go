package forward

import (
	"io"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// Held returns what f counts at the moment: paths in total, sources with paths,
// candidates with load, connections to endpoints, and paths that drain waits for.
func (f *Forward) Held() (paths, sources, loads, dials, running int) {
	f.limits.mu.Lock()
	paths, sources = f.limits.here+f.limits.there, len(f.limits.held)
	f.limits.mu.Unlock()
	f.load.mu.Lock()
	loads = len(f.load.paths)
	f.load.mu.Unlock()
	f.dials.mu.Lock()
	dials = len(f.dials.conns)
	f.dials.mu.Unlock()
	running = f.open.Len()
	return
}

// HTTP2Denial refuses the client that c is.
func HTTP2Denial(c io.ReadWriter) ([]byte, error) {
	return http2Denial(c, connect.Refuse(403, connect.RequestDenied, "no"), "isthmus-gateway")
}
