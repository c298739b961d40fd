package exchange

import "time"

// Timeouts bound what the exchanges of one listener may take; 0 is no bound.
type Timeouts struct {
	Request time.Duration // from a request's head to the end of its answer
	Idle    time.Duration // nothing moves in either direction, or the answer does not begin
	Relay   time.Duration // nothing moves on a TCP or upgraded connection
}

// DefaultTimeouts are those of who has no reason for others.
func DefaultTimeouts() Timeouts { return Timeouts{Idle: idleStream, Relay: idleRelay} }

// bounds are what one exchange may take.
type bounds struct {
	idle time.Duration // 0: none
	end  time.Time     // zero: none
	// called is the request's grpc-timeout, 0: none. byCall says that end follows from it.
	called time.Duration
	byCall bool
	// rule is the name of the rule that end follows from, and ruled its timeout; empty: it does not.
	rule  string
	ruled time.Duration
}

func (t *Timeouts) of(started time.Time) bounds {
	b := bounds{idle: t.Idle}
	if t.Request > 0 {
		b.end = started.Add(t.Request)
	}
	return b
}

// shorten makes a grpc-timeout the bound, when it ends before.
func (b *bounds) shorten(started time.Time, timeout []byte) {
	d, ok := parseTimeout(timeout)
	if !ok {
		return
	}
	b.called = max(d, 1)
	if end := started.Add(d); b.end.IsZero() || end.Before(b.end) {
		b.end, b.byCall = end, true
	}
}

// limit makes end the bound, which the rule says, when it comes before.
func (b *bounds) limit(end time.Time, after time.Duration, rule string) {
	if b.end.IsZero() || end.Before(b.end) {
		b.end, b.byCall, b.rule, b.ruled = end, false, rule, after
	}
}

// deadline is until when something must have moved; zero: never.
func (b bounds) deadline(now time.Time) time.Time {
	if b.idle == 0 {
		return b.end
	}
	return b.earlier(now.Add(b.idle))
}

// earlier returns t or the end, whichever comes first.
func (b bounds) earlier(t time.Time) time.Time {
	if !b.end.IsZero() && b.end.Before(t) {
		return b.end
	}
	return t
}

// over reports whether the exchange has taken too long.
func (b bounds) over(now time.Time) bool { return !b.end.IsZero() && !now.Before(b.end) }

// streamDeadline is the deadline of one direction in which bytes keep moving.
type streamDeadline struct {
	until time.Time
	set   bool
}

// extend moves the deadline on by set, when that makes a difference: a timer costs
// more than a look at the time.
func (d *streamDeadline) extend(now time.Time, b bounds, set func(time.Time) error) {
	if d.set && (b.idle == 0 || d.until.Equal(b.end) || d.until.Sub(now) >= b.idle*7/8) {
		return
	}
	d.until, d.set = b.deadline(now), true
	_ = set(d.until)
}
