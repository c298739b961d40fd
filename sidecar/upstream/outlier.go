package upstream

import "time"

// outlier decides how long something that fails is left alone. It is a value
// without clock or lock: who owns it passes the time and serializes calls.
type outlier struct {
	failures int     // in a row
	until    instant // ejected until then; 0: in service
	probing  bool    // a request was let through to find out
	times    int     // ejections in a row, for the doubling
	closed   bool    // ejected because it could not be connected to
	back     instant // when it last came back
}

// fault is what a failure shows of who caused it.
type fault uint8

const (
	suspected   fault = iota // several in a row eject
	unserved                 // its program takes nothing: ejects at once
	unconnected              // nobody can connect to it: ejects at once, until somebody can
)

// ejected reports whether o is out of service: also when its time is over and
// nobody has found it fit yet.
func (o *outlier) ejected() bool { return o.until != 0 }

// fail counts a failure and reports whether it ejects: when it is no suspicion at once,
// else when enough came in a row. What is ejected is ejected anew once its time is over,
// when a probe has failed.
func (o *outlier) fail(now instant, f fault) bool {
	o.failures++
	if f == suspected && o.until == 0 && o.failures < gatewayErrorsToEject {
		return false
	}
	if now < o.until && !o.probing {
		return false // a request that began before the ejection
	}
	if o.until == 0 && o.back != 0 && now.since(o.back) > maxEjection {
		o.times = 0 // it has been well for long: this is a new story
	}
	o.until = now.add(o.pause())
	o.times++
	o.probing, o.closed = false, f == unconnected
	return true
}

// pause is how long the next ejection lasts.
func (o *outlier) pause() time.Duration {
	return min(minEjection<<min(o.times, 16), maxEjection)
}

// succeed puts o back into service.
func (o *outlier) succeed(now instant) {
	o.failures, o.probing, o.closed = 0, false, false
	if o.until != 0 {
		o.until, o.back = 0, now
	}
}

// probe reports whether one request may now be sent to what is ejected. Until
// that one is decided, or another pause has gone by, there is no second.
func (o *outlier) probe(now instant) bool {
	if o.until == 0 || now < o.until {
		return false
	}
	o.until = now.add(max(openTimeout, o.pause()))
	o.probing = true
	return true
}
