package gatewaylink

import "time"

// outage says which failures of a stream that is tried again and again are worth a
// line in the log: the first since it stood, and later ones that read differently,
// one a minute at most. It belongs to the goroutine that tries.
type outage struct {
	failing bool
	last    string // what was logged
	logged  time.Time
}

// failed is told of a failure, and whether the stream stood before it.
func (o *outage) failed(err error, stood bool) (log bool) {
	now, text := time.Now(), err.Error()
	if o.failing && !stood && (text == o.last || now.Sub(o.logged) < outageInterval) {
		return false
	}
	o.failing, o.last, o.logged = true, text, now
	return true
}
