package registry

import (
	"fmt"
	"time"
)

// refusals says which refusals are worth a line: a sidecar that is refused tries
// again every other second for as long as it runs. Guarded by Server.mu.
type refusals map[refused]saidOnce

// refused is a registration as it was asked for.
type refused struct{ peer, service, instance string }

type saidOnce struct {
	text string
	at   time.Time
}

// news reports whether r was not refused because of err lately, and takes note of it.
func (m refusals) news(r refused, err error) bool {
	now, text := time.Now(), fmt.Sprintf("%.256s", err)
	r.service, r.instance = fmt.Sprintf("%.256s", r.service), fmt.Sprintf("%.256s", r.instance)
	if last, ok := m[r]; ok && last.text == text && now.Sub(last.at) < refusalInterval {
		return false
	}
	if len(m) >= maxRefusals { // at worst each is said once more
		clear(m)
	}
	m[r] = saidOnce{text, now}
	return true
}
