package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxCounted bounds those who are counted apart.
const maxCounted = 16384

// Rates bounds how often each of many may do something. Its methods may be called
// concurrently.
type Rates[K comparable] struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[K]*rate.Limiter
	rest    *rate.Limiter // of all for whom there is no room among buckets
}

// NewRates lets each do it so often, and burst times at once.
func NewRates[K comparable](perSecond float64, burst int) *Rates[K] {
	return &Rates[K]{
		rate: rate.Limit(perSecond), burst: burst, buckets: make(map[K]*rate.Limiter),
		rest: rate.NewLimiter(rate.Limit(perSecond), burst),
	}
}

// Allow reports whether k may once more, and counts it.
func (r *Rates[K]) Allow(k K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.buckets[k]
	if !ok && len(r.buckets) >= maxCounted {
		for k, b := range r.buckets {
			if b.TokensAt(now) >= float64(r.burst) { // says nothing any more
				delete(r.buckets, k)
			}
		}
	}
	switch {
	case ok:
	case len(r.buckets) < maxCounted:
		b = rate.NewLimiter(r.rate, r.burst)
		r.buckets[k] = b
	default:
		b = r.rest
	}
	return b.AllowN(now, 1)
}
