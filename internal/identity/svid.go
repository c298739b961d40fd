package identity

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// svid is a certificate with its key, as SPIFFE calls them (X.509-SVID): what a process
// shows. It never changes after it was made.
type svid struct {
	self  Peer             // what others take it for
	tls   *tls.Certificate // chain with its key, and a gateway's with its root
	key   crypto.Signer
	taken time.Time // when it was made
	ends  time.Time // when the first certificate of its own chain expires
}

func (v *svid) id() ID { return v.self.ID }

// newSVID checks that certificate and key belong together. What the chain proves, beside its
// ID, is for the trust store to say.
func newSVID(from Material) (*svid, error) {
	if len(from.Chain) == 0 {
		return nil, errors.New("no certificate")
	}
	leaf := from.Chain[0]
	id, err := IDOf(leaf)
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(from.Key.Public()) {
		return nil, fmt.Errorf("the key is not that of certificate %s", id)
	}
	v := &svid{self: Peer{ID: id}, tls: &tls.Certificate{PrivateKey: from.Key, Leaf: leaf}, key: from.Key, taken: time.Now(), ends: leaf.NotAfter}
	for _, c := range from.Chain {
		v.tls.Certificate = append(v.tls.Certificate, c.Raw)
		if c.NotAfter.Before(v.ends) {
			v.ends = c.NotAfter
		}
	}
	return v, nil
}

// lifetime is how long it is valid, from when it was issued or, if that is longer, from when
// this process took it: an issuer may have dated it back.
func (v *svid) lifetime() time.Duration {
	return max(v.ends.Sub(v.taken), v.ends.Sub(v.tls.Leaf.NotBefore)-backdate)
}

// warnFrom leaves an operator a week for certificates that live long, and is past the
// half of life at which others are renewed.
func (v *svid) warnFrom() time.Time {
	return v.ends.Add(-min(warnBefore, v.lifetime()/4))
}
