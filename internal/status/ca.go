package status

import "time"

// CA is what a process answers that issues its cluster's certificates.
type CA struct {
	ID          string      `json:"ca"` // its SPIFFE ID
	Version     string      `json:"version"`
	Ready       bool        `json:"ready"`
	Pending     []Condition `json:"pending,omitempty"` // of readiness
	Uptime      float64     `json:"uptime_seconds"`
	Certificate Certificate `json:"certificate"` // its own, which ends with the intermediate
	Trust       []Trust     `json:"trust"`
	Gateways    []Followed  `json:"gateways"` // from which it hears of revocations
	// Intermediate is the fingerprint of the one that it issues with.
	Intermediate string  `json:"intermediate"`
	TTL          float64 `json:"ttl_seconds"`           // of certificates, at most
	TokensUsed   int     `json:"tokens_used"`           // those that are remembered
	StateError   string  `json:"state_error,omitempty"` // why what it knows is not kept on disk
	Reload       *Reload `json:"reload,omitempty"`      // the last one
}

// Problems returns everything that is wrong.
func (ca *CA) Problems(now time.Time) []string {
	var p problems
	p.common(ca.Pending, ca.Certificate, ca.StateError, ca.Reload, now)
	for _, g := range ca.Gateways {
		if g.LastError != "" {
			p.add("it hears of no revocations from gateway %s: %s", g.Address, g.LastError)
		}
	}
	return p
}

// Followed is a gateway that a CA follows.
type Followed struct {
	Address   string `json:"address"`
	LastError string `json:"last_error,omitempty"`
}

// Verdict is the CA's state in one line.
func (ca *CA) Verdict(now time.Time) string {
	return verdict(ca.Problems(now), "1 CA")
}
