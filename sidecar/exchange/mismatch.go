package exchange

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// mismatchPause is how long a listener says nothing more of clients that speak
// another protocol: such a client tries again and again.
const mismatchPause = time.Minute

// recordMismatch tells the operator what to declare when err is another protocol by its
// first bytes.
func (s *Server) recordMismatch(err error) {
	speaks := ""
	switch {
	case errors.Is(err, http1.ErrHTTP2):
		speaks = "HTTP/2"
	case errors.Is(err, http1.ErrTLS):
		speaks = "TLS"
	default:
		return
	}
	if n := s.mismatch.Add(time.Now(), mismatchPause); n > 0 {
		s.Log.Info("clients speak "+speaks+" where plain HTTP/1.1 is spoken here: have them speak that, since the mesh encrypts, or declare protocol: tcp for this service (auto takes both)",
			"protocol", speaks, "refused", n)
	}
}
