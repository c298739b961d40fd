package gatewaylink

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/rpcerr"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Following is what a stream to gateways is for, and how it is kept open.
type Following struct {
	// Ready waits until there is something to say; false: ctx has ended. Nil: there always is.
	Ready func(ctx context.Context) bool
	// Stream is one stream from its dial to its end. stood says that the gateway answered. An
	// error of nil means that there is nothing more to say.
	Stream func(ctx context.Context, l *Link) (stood bool, err error)
	// Never and Again are what the log says of a gateway where no stream stood, and where it
	// does not stand any more; With goes with them.
	Never, Again string
	With         []any
	Log          *slog.Logger
}

// Follow keeps one stream open, to one of links after the other, until ctx ends. A stream that
// fails is replaced at once by one to the next gateway; only when all have failed in a row
// is there a pause.
func Follow(ctx context.Context, links []*Link, f Following) {
	at := rand.IntN(len(links)) // spreads the sidecars over the gateways
	failed := 0
	backoff := state.Backoff{Min: minRetry, Max: maxRetry}
	outages := make([]outage, len(links))
	for ctx.Err() == nil && (f.Ready == nil || f.Ready(ctx)) {
		l := links[at]
		began := time.Now()
		stood, err := f.Stream(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if err == nil || time.Since(began) > stableAfter {
			failed = 0
			backoff.Reset()
		}
		if err == nil {
			continue
		}
		if level, log := outages[at].failed(err, stood); log {
			said := f.Never
			if stood {
				said = f.Again
			}
			f.Log.Log(ctx, level, said, append([]any{"gateway", l.Addr(), "err", rpcerr.Why(err)}, f.With...)...)
		}
		at = (at + 1) % len(links)
		if failed++; failed >= len(links) {
			failed = 0
			if !state.Pause(ctx, backoff.Next()) {
				return
			}
		}
	}
}
