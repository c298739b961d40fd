package identity

import (
	"crypto/tls"
	"sync"
	"time"
)

// maxRenewals bounds the peers of which the newest certificate is kept in mind: about
// 10 MB. Those of whom there is no room lose their connections when the certificate that
// was shown on them ends.
const maxRenewals = 1 << 16

// Renewals knows how long the newest certificate is valid that each peer has shown: who
// has renewed in time keeps the connections that were made with the older one. The zero
// value is ready; its methods may be called concurrently.
type Renewals struct {
	mu    sync.Mutex
	until map[string]time.Time // by SPIFFE ID
}

// Seen takes note of a handshake.
func (r *Renewals) Seen(cs tls.ConnectionState) {
	id, until, ok := shown(cs)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = make(map[string]time.Time)
	}
	if _, known := r.until[id]; !known && len(r.until) >= maxRenewals {
		r.forgetExpiredLocked(time.Now())
		if len(r.until) >= maxRenewals {
			return
		}
	}
	if until.After(r.until[id]) {
		r.until[id] = until
	}
}

func (r *Renewals) forgetExpiredLocked(now time.Time) {
	for id, until := range r.until {
		if now.After(until) {
			delete(r.until, id)
		}
	}
}

// Trusts is [TrustStore.TrustsRenewed] for who has shown a certificate that is valid now,
// and [TrustStore.Trusts] for who has not.
func (r *Renewals) Trusts(t *TrustStore, cs tls.ConnectionState, policy PeerPolicy) error {
	id, _, ok := shown(cs)
	r.mu.Lock()
	renewed := ok && time.Now().Before(r.until[id])
	r.mu.Unlock()
	if renewed {
		return t.TrustsRenewed(cs, policy)
	}
	return t.Trusts(cs, policy)
}

// shown returns who has shown a certificate, and until when its chain is valid.
func shown(cs tls.ConnectionState) (id string, until time.Time, ok bool) {
	peer, err := PeerID(cs)
	if err != nil {
		return "", time.Time{}, false
	}
	for i, c := range cs.PeerCertificates {
		if i == 0 || c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return peer.String(), until, true
}
