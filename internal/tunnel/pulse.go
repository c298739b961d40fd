package tunnel

import "time"

// pulse measures the silence of one connection. It is owned by the goroutine that
// runs the [watcher]; it has no clock.
type pulse struct {
	packets uint64        // received when last looked
	silent  time.Duration // since a packet was received, in ticks
	asked   time.Duration // value of silent at the last heartbeat
	late    time.Duration // longest recent silence that ended, fading
	idle    bool          // the peer is not in use: there is time
}

// limit returns the silence that means death.
func (p *pulse) limit(rtt time.Duration) time.Duration {
	if p.idle {
		return idleSilence
	}
	l := min(max(silence, 2*p.late), maxLateSilence)
	return min(max(l, minSilenceRTTs*rtt), maxSilence)
}

// wake is called when the peer comes to be in use: it is asked at once, and its
// silence counts from now.
func (p *pulse) wake() { p.idle, p.silent, p.asked = false, 0, 0 }

// tick takes how long ago the last tick was (see worth), how many packets were
// received in all, and the smoothed round-trip time. It says whether to send a heartbeat
// now, and whether the peer is dead.
func (p *pulse) tick(elapsed time.Duration, packets uint64, rtt time.Duration) (heartbeat, dead bool) {
	p.late -= min(p.late, p.late*elapsed/lateMemory)
	if packets != p.packets {
		p.packets = packets
		if !p.idle {
			p.late = max(p.late, p.silent)
		}
		p.silent, p.asked = 0, 0
		return false, false
	}
	p.silent += elapsed
	limit := p.limit(rtt)
	if p.silent >= limit {
		return false, true
	}
	if p.silent-p.asked >= limit/heartbeats {
		p.asked = p.silent
		return true, false
	}
	return false, false
}
