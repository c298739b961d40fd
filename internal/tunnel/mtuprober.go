package tunnel

import "time"

// mtuProber notices a path that passes small packets only (RFC 8899, section 4.3). A
// heartbeat is small, so each end sends probes: as large as the connection's
// packets are at the time. The peer echoes them. It is owned by the goroutine that
// runs the [watcher]; it has no clock.
type mtuProber struct {
	sent   uint32        // number of the last probe
	oldest uint32        // of those that wait for an echo; 0: none does
	since  time.Duration // since the last probe was sent, in ticks
	every  time.Duration // what the last one said of the next
	out    drought       // of echoes, while one is waited for
	in     drought       // of the peer's probes
	probed uint32        // number of the peer's last probe
}

// drought is how long something has not come from a peer that is heard.
type drought struct {
	lasts time.Duration // in ticks
	heard int           // ticks since then in which the peer was heard
}

func (d *drought) tick(elapsed time.Duration, heard bool) {
	d.lasts += elapsed
	if heard {
		d.heard++
	}
}

// over reports that the drought lasts so long already, and not because the peer is
// silent altogether.
func (d *drought) over(limit time.Duration) bool { return d.lasts >= limit && d.heard >= probeHeard }

// passage says which packets a path passes.
type passage int

const (
	passesAll  passage = iota
	passesHard         // large packets have been lost for a while: new streams should go another way
	passesNone         // for so long that it is no accident
)

// heardOf is what the peer's datagrams have said.
type heardOf struct {
	any    bool          // something was heard since the last tick
	echoed uint32        // the highest number that came back
	probed uint32        // the number of the peer's last probe; 0: none has come yet
	next   time.Duration // when the next one follows that
}

// tick takes how long ago the last tick was (see worth), how often to send probes, what
// was heard, and the smoothed round-trip time. It says whether to send a probe now,
// numbered sent, and what becomes of large packets.
//
// That none came is no proof while none has ever come: the peer may not know how.
func (p *mtuProber) tick(elapsed, every time.Duration, h heardOf, rtt time.Duration) (probe bool, _ passage) {
	p.since += elapsed
	p.in.tick(elapsed, h.any)
	if h.probed != p.probed {
		p.probed, p.in = h.probed, drought{}
	}
	if p.oldest > 0 && h.echoed >= p.oldest {
		p.oldest = 0
	}
	switch {
	case p.oldest > 0:
		p.out.tick(elapsed, h.any)
		probe = p.out.lasts >= max(probeRepeat, 2*rtt)
	case p.sent == 0 || p.since >= every || p.every != every: // the peer is to know when that changes
		p.oldest, p.out = p.sent+1, drought{}
		probe = true
	}
	if probe {
		p.sent++
		p.since, p.every = 0, every
	}
	doubt := max(probeDoubt, minSilenceRTTs*rtt)
	switch waits := p.oldest > 0 && h.echoed > 0; {
	case waits && p.out.over(max(probeLost, 2*doubt)):
		return probe, passesNone
	case waits && p.out.over(doubt), h.probed > 0 && p.in.over(max(probeEvery, h.next)+doubt):
		return probe, passesHard
	}
	return probe, passesAll
}
