package http2

import "time"

// work is what a peer can make us do at little cost of its own.
type work uint8

const (
	resets       work = iota // streams reset by the peer before their answer: CVE-2023-44487
	streamFaults             // streams that we had to reset for a fault: CVE-2025-8671
	settings                 // SETTINGS: each is answered
	pings                    // PING: each is answered
	empty                    // DATA without payload and end: CVE-2019-9518
	windows                  // WINDOW_UPDATE
	priority                 // PRIORITY
	useless                  // unknown types, frames of closed streams
	kindsOfWork
)

// limits says how much of each kind is too much, and how much of it comes back: with a
// stream that finished in order, with a DATA frame in either direction, and with a
// second that the driver reports.
//
// All but one end the connection. A connection whose resets are too many takes no new
// streams and lets those go on that are open: between sidecars they are of many clients,
// of whom one may be the attacker.
//
// A rapid reset costs a backend a request and the attacker 50 bytes; a peer half of
// whose streams finish has paid for as many that do not. Programs that read in small
// pieces send a WINDOW_UPDATE for each on both levels, ten a DATA frame when pieces are
// 3 KiB; gRPC measures with a PING per few DATA frames, and keeps an idle connection alive
// with one per 10 s.
var limits = [kindsOfWork]struct {
	max                           int
	perStream, perData, perSecond int
	err                           error
}{
	resets:       {500, 1, 0, 5, nil}, // calm
	streamFaults: {500, 1, 0, 5, ErrStreamFaults},
	settings:     {100, 1, 0, 5, ErrSettingsFlood},
	pings:        {500, 4, 1, 10, ErrPingFlood},
	empty:        {500, 1, 1, 10, ErrEmptyFrames},
	windows:      {2000, 4, 10, 10, ErrWindowFlood},
	priority:     {500, 4, 0, 10, ErrPriorityFlood},
	useless:      {2000, 4, 1, 10, ErrUselessFrames},
}

// budgets are what is left of each.
type budgets [kindsOfWork]int

func (b *budgets) init() {
	for w := range limits {
		b[w] = limits[w].max
	}
}

func (b *budgets) spend(w work) error {
	if b[w]--; b[w] <= 0 {
		return limits[w].err
	}
	return nil
}

// finished takes in a stream that ended in order.
func (b *budgets) finished() {
	for w := range limits {
		b[w] = min(b[w]+limits[w].perStream, limits[w].max)
	}
}

// moved takes in a DATA frame with payload, in either direction.
func (b *budgets) moved() {
	for w := range limits {
		b[w] = min(b[w]+limits[w].perData, limits[w].max)
	}
}

// Elapsed reports time that has passed since the last call: budgets come back. A driver
// that never calls it has budgets by useful work alone, which a long idle connection
// with keepalives does not do.
func (c *Conn) Elapsed(d time.Duration) {
	c.elapsed = min(c.elapsed+d, time.Hour)
	seconds := int(c.elapsed / time.Second)
	c.elapsed %= time.Second
	for w := range limits {
		c.budgets[w] = min(c.budgets[w]+seconds*limits[w].perSecond, limits[w].max)
	}
}
