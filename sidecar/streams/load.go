package streams

import "time"

// Load is what the streams of a connection carry that are in use.
type Load struct {
	Since   time.Time // when the oldest of them was opened; zero: there are none
	Carried int       // bytes of payload that the one with most has carried, both directions together
}

// Load returns what those who would share the connection share it with. It is known of a
// client's connection only.
func (c *Conn) Load() (l Load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams.using {
		if l.Since.IsZero() || s.opened.Before(l.Since) {
			l.Since = s.opened
		}
		l.Carried = max(l.Carried, s.carried)
	}
	return l
}
