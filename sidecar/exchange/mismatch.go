package exchange

import "time"

// mismatchPause is how long a listener says nothing more of clients that speak
// another protocol: such a client tries again and again.
const mismatchPause = time.Minute

// recordTLS tells the operator what to do about a client that begins TLS of its own.
func (s *Server) recordTLS() {
	if n := s.mismatch.Add(time.Now(), mismatchPause); n > 0 {
		s.Log.Info("clients speak TLS of their own where HTTP is declared: have them speak plain HTTP, since the mesh encrypts, or declare protocol: tcp for this service (auto takes both)",
			"protocol", "TLS", "refused", n)
	}
}
