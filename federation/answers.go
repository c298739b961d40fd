package federation

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// answers are catalogs as they are sent, and how many are being sent: whoever asks may
// not read, and everybody who asks for the same is sent the same bytes. Its methods may be
// called concurrently.
type answers struct {
	mu      sync.Mutex
	sending map[mesh.ClusterName]int
	total   int
	freed   chan struct{} // closed and replaced when one has ended
	kept    map[answerKey]*answer
	bytes   int // of kept
}

// answerKey names a delta: to a head, from a version; zero: the whole.
type answerKey struct {
	head  catalog.Head
	since catalog.Version
}

// answer is one body, compressed.
type answer struct {
	encode sync.Once
	body   []byte
	err    error
	used   time.Time // guarded by answers.mu
}

func newAnswers() *answers {
	return &answers{sending: map[mesh.ClusterName]int{}, freed: make(chan struct{}), kept: map[answerKey]*answer{}}
}

// start waits for its turn to answer a gateway of a cluster; false: it did not come within
// answerWait, or ctx has ended. After true, [answers.end] must be called.
func (a *answers) start(ctx context.Context, c mesh.ClusterName) bool {
	late := time.NewTimer(answerWait)
	defer late.Stop()
	for {
		a.mu.Lock()
		if a.total < maxAnswers && a.sending[c] < maxClusterAnswers {
			a.total++
			a.sending[c]++
			a.mu.Unlock()
			return true
		}
		freed := a.freed
		a.mu.Unlock()
		select {
		case <-freed:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (a *answers) end(c mesh.ClusterName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.sending[c]--; a.sending[c] == 0 {
		delete(a.sending, c)
	}
	close(a.freed)
	a.freed = make(chan struct{})
}

// body returns the bytes of an answer, which it makes when it is not kept.
func (a *answers) body(d signedDelta) ([]byte, error) {
	key := answerKey{head: d.Delta.Head}
	if !d.Delta.Whole {
		key.since = catalog.Version{Epoch: d.Delta.Head.Version.Epoch, Seq: d.Delta.Since}
	}
	a.mu.Lock()
	x := a.kept[key]
	if x == nil {
		x = &answer{}
		a.kept[key] = x
	}
	x.used = time.Now()
	a.mu.Unlock()
	x.encode.Do(func() {
		body, err := compressed(d.write)
		a.mu.Lock()
		defer a.mu.Unlock()
		x.body, x.err = body, err
		a.bytes += len(body)
		a.trimLocked(key)
	})
	return x.body, x.err
}

// trimLocked forgets answers that were not asked for for the longest time, until
// what is left is within bounds. The one that was just made stays.
func (a *answers) trimLocked(made answerKey) {
	for a.bytes > maxKeptBytes || len(a.kept) > maxKeptAnswers {
		oldest := made
		for key, x := range a.kept {
			if key != made && x.body != nil && (oldest == made || x.used.Before(a.kept[oldest].used)) {
				oldest = key
			}
		}
		if oldest == made {
			return
		}
		a.bytes -= len(a.kept[oldest].body)
		delete(a.kept, oldest)
	}
}

// compressed returns what write writes.
func compressed(write func(io.Writer) error) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := write(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// send writes a compressed body. Who does not read it in time is cut off.
func send(w http.ResponseWriter, body []byte) error {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Encoding", "gzip")
	_, err := w.Write(body)
	return err
}
