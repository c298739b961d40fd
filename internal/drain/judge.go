package drain

import (
	"context"
	"crypto/tls"
	"time"
)

// expiryInterval is how often certificates are looked at for those that have ended.
const expiryInterval = time.Second

// proof is what a peer has shown in its handshake.
type proof struct {
	state   tls.ConnectionState
	trusts  func(tls.ConnectionState) error
	expires time.Time // the first certificate of the chain to end
}

// Proved says who the peer has proved to be. From now on the entry ends when trusts,
// asked about state again, returns an error, which is then the cause.
func (e *Entry) Proved(state tls.ConnectionState, trusts func(tls.ConnectionState) error) {
	p := &proof{state: state, trusts: trusts}
	for i, cert := range state.PeerCertificates {
		if i == 0 || cert.NotAfter.Before(p.expires) {
			p.expires = cert.NotAfter
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proved = p
}

// Watch judges entries again until ctx ends: all of them whenever a channel that
// past returned closes, and each when a certificate of its peer's chain ends.
func (s *Set) Watch(ctx context.Context, past func() <-chan struct{}) {
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	changed, again := past(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			changed = past()
			s.Judge()
			again = true
		case now := <-tick.C:
			// Again: who was shaking hands while it changed was judged by what was before.
			all := again
			again = false
			s.judge(func(p *proof) bool { return all || len(p.state.PeerCertificates) > 0 && now.After(p.expires) })
		}
	}
}

// Judge judges all entries again now: what their trust depends on has changed.
func (s *Set) Judge() { s.judge(func(*proof) bool { return true }) }

// judge ends the entries of which suspect holds and that are not trusted now.
func (s *Set) judge(suspect func(*proof) bool) {
	for _, e := range s.entries() {
		e.mu.Lock()
		p := e.proved
		e.mu.Unlock()
		if p == nil || !suspect(p) {
			continue
		}
		if err := p.trusts(p.state); err != nil {
			e.end(err)
		}
	}
}
