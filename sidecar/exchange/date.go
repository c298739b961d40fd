package exchange

import (
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// dateText is the time as Date fields say it, written once a second. The zero value
// is ready; it may be used concurrently.
type dateText struct{ last atomic.Pointer[dateSecond] }

type dateSecond struct {
	unix int64
	text string
}

func (d *dateText) at(now time.Time) string {
	last := d.last.Load()
	if unix := now.Unix(); last == nil || last.unix != unix {
		last = &dateSecond{unix, string(http1.AppendDate(nil, now))}
		d.last.Store(last)
	}
	return last.text
}
