package tunnel

import "time"

// prober notices a path that passes small packets only (RFC 8899, section 4.3). A
// heartbeat is small, so each end sends probes: as large as the connection's
// packets are at the time. The peer echoes them. It is owned by the goroutine that
// runs the [watcher]; it has no clock.
type prober struct {
	sent   uint32        // number of the last probe
	oldest uint32        // of those that wait for an echo; 0: none does
	since  time.Duration // since the last probe was sent, in ticks
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

// tick takes how long ago the last tick was, whether the peer was heard since, the
// highest number that it has echoed and that of its own last probe (0: none yet),
// and the smoothed round-trip time. It says whether to send a probe now, numbered
// sent, and what becomes of large packets.
//
// That none came is no proof while none has ever come: the peer may not know how.
func (p *prober) tick(elapsed time.Duration, heard bool, echoed, probed uint32, rtt time.Duration) (probe bool, _ passage) {
	elapsed = min(elapsed, tickWorth)
	p.since += elapsed
	p.in.tick(elapsed, heard)
	if probed != p.probed {
		p.probed, p.in = probed, drought{}
	}
	if p.oldest > 0 && echoed >= p.oldest {
		p.oldest = 0
	}
	switch {
	case p.oldest > 0:
		p.out.tick(elapsed, heard)
		probe = p.out.lasts >= max(probeRepeat, 2*rtt)
	case p.sent == 0 || p.since >= probeEvery:
		p.oldest, p.out = p.sent+1, drought{}
		probe = true
	}
	if probe {
		p.sent++
		p.since = 0
	}
	doubt := max(probeDoubt, minSilenceRTTs*rtt)
	switch waits := p.oldest > 0 && echoed > 0; {
	case waits && p.out.over(max(probeLost, 2*doubt)):
		return probe, passesNone
	case waits && p.out.over(doubt), probed > 0 && p.in.over(probeEvery+doubt):
		return probe, passesHard
	}
	return probe, passesAll
}
