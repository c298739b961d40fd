package xds

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/drain"
)

// streams are the open ADS streams, and how many names each caller has
// subscribed to by all of its own. Its methods may be called concurrently.
type streams struct {
	open  *drain.Set
	gauge prometheus.Gauge

	mu    sync.Mutex
	names map[string]int // by caller
}

func newStreams(gauge prometheus.Gauge) *streams {
	return &streams{open: drain.NewSet(), gauge: gauge, names: map[string]int{}}
}

// enter tracks a stream; false: the server is shutting down. Otherwise leave
// must follow.
func (s *streams) enter(a *adsStream) bool {
	a.entry = s.open.Add(func(error) { a.end() }, nil)
	if a.entry == nil {
		return false
	}
	s.gauge.Inc()
	return true
}

func (s *streams) leave(a *adsStream) {
	a.entry.Remove()
	s.gauge.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	for typeURL := range a.names {
		s.allotLocked(a, typeURL, 0)
	}
}

// allot notes that a is about n names of a type, unless that is too much.
func (s *streams) allot(a *adsStream, typeURL string, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := a.names[typeURL]; !known && len(a.names) == maxTypes {
		return fmt.Errorf("a stream asks for more than %d types", maxTypes)
	}
	if s.names[a.caller]+n-a.names[typeURL] > maxNamesPerCaller {
		return fmt.Errorf("the streams of %s from one address subscribe to more than %d names", a.identity, maxNamesPerCaller)
	}
	s.allotLocked(a, typeURL, n)
	return nil
}

func (s *streams) allotLocked(a *adsStream, typeURL string, n int) {
	s.names[a.caller] += n - a.names[typeURL]
	a.names[typeURL] = n
	if s.names[a.caller] == 0 {
		delete(s.names, a.caller)
	}
}

// close ends every stream and refuses new ones.
func (s *streams) close() {
	s.open.Drain(time.Now())
	s.open.Abort()
}
