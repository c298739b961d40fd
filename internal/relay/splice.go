package relay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// splice has the kernel move what comes, while much comes and both ends are plain
// sockets. It costs a pipe, so that only so many do it at a time.
func (d *direction) splice() next {
	from, to := Socket(Source(d.src)), Socket(d.dst)
	if from == nil || to == nil || !takeSplice() {
		return more
	}
	defer splices.Add(-1)
	defer d.unlimit() // the next read sets its own
	limit := spliceLimit
	if d.pair.idle > 0 {
		limit = min(limit, d.pair.idle/(2*idleTicks))
	}
	for {
		d.waiting = time.Now().Add(limit)
		_ = from.SetReadDeadline(d.waiting) // fails on a closed connection only
		chunk := io.LimitedReader{R: from, N: spliceChunk}
		d.pair.writing.Add(1) // perhaps
		k, err := to.ReadFrom(&chunk)
		d.pair.writing.Add(-1)
		d.n += k
		if k > 0 {
			d.heard()
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if k < largeSize {
				return more // a buffer serves as well
			}
		case err != nil:
			d.pair.abort(fmt.Errorf("splice from %s to %s: %w", d.src.RemoteAddr(), d.dst.RemoteAddr(), err))
			return over
		case chunk.N > 0:
			return d.end()
		}
	}
}

// splices counts the directions that are spliced: no state of anybody's.
var splices atomic.Int32

// takeSplice counts one more, if it may be. The caller takes it away again.
func takeSplice() bool {
	if splices.Add(1) <= maxSplices {
		return true
	}
	splices.Add(-1)
	return false
}
