package config

import "time"

// Timeouts bound what exchanges and connections of one service or upstream may
// take. 0 is no bound; a nil Idle is its default.
type Timeouts struct {
	// How long one exchange may take, from the request's first byte to the answer's
	// last. Default: no bound.
	Request time.Duration `yaml:"request"`
	// How long nothing may move on an exchange or connection that is open. Default:
	// 5m for HTTP, 1h for TCP and after an upgrade.
	Idle *time.Duration `yaml:"idle"`
	// How long a TCP connect may take. Default: 1s.
	Connect time.Duration `yaml:"connect"`
}

const (
	defaultConnect = time.Second // a SYN is sent again after 1 s, and by then another host has answered
	minTimeout     = 10 * time.Millisecond
	maxTimeout     = 7 * 24 * time.Hour // who wants longer wants none
)

// complete tells c what is wrong.
func (t *Timeouts) complete(c *completer, key string) {
	if !c.doc.Has(key + ".connect") {
		t.Connect = defaultConnect
	}
	c.timeout(key+".request", t.Request)
	c.timeout(key+".connect", t.Connect)
	if t.Idle != nil {
		c.timeout(key+".idle", *t.Idle)
	}
}

func (c *completer) timeout(key string, d time.Duration) {
	if d != 0 && (d < minTimeout || d > maxTimeout) {
		c.fault(key, "%s is out of range: write %s to %s, or 0s for none", d, minTimeout, maxTimeout)
	}
}
