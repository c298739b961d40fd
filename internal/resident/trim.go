package resident

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTakes is when a process has used what only its start needs of the executable.
	startTakes = 10 * time.Second

	// look is how often it is looked whether the process is calm: it has used less than
	// calm of a processor's time since the last look.
	look = 2 * time.Second
	calm = look / 20

	// worth is how much must at least have been allocated since memory was given back
	// last, in bytes, and half of what is live: so there are few collections beside Go's
	// own.
	worth = 8 << 20
)

// Trim gives memory that is not needed any more back to the kernel, until ctx is done: what of the
// executable only the start needed, and whenever the process has become calm what a burst has left.
// Go collects when the heap has doubled, or after two minutes, and returns pages slowly; until
// then a thousand connections that came at once hold what their first second took.
func Trim(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	started := time.NewTimer(startTakes)
	defer started.Stop()
	var t trimmer
	for {
		select {
		case <-ctx.Done():
			return
		case <-started.C: // however busy it is
		case <-tick.C:
			if !t.due(usage()) {
				continue
			}
			debug.FreeOSMemory()
		}
		if err := Release(); err != nil {
			log.Debug("the pages of the executable are kept", "err", err)
		}
	}
}

// used is what the process has used in all.
type used struct {
	cpu       time.Duration
	allocated uint64 // bytes
	live      uint64 // bytes, after the last collection
}

// usage returns what this process has used so far.
func usage() used {
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(heap)
	u := used{allocated: heap[0].Value.Uint64(), live: heap[1].Value.Uint64()}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil { // else it always looks calm
		u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return u
}

// trimmer decides when memory is given back.
type trimmer struct {
	last    used   // at the last look
	trimmed uint64 // allocated when memory was given back last; 0: never
}

// due reports whether to give memory back now that u has been used.
func (t *trimmer) due(u used) bool {
	quiet := u.cpu-t.last.cpu < calm
	t.last = u
	if !quiet || t.trimmed != 0 && u.allocated-t.trimmed < max(worth, u.live/2) {
		return false
	}
	t.trimmed = u.allocated
	return true
}
