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
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// answers are catalogs as they are sent, and how many are being sent: whoever asks may
// not read, and everybody who asks for the same is sent the same bytes. Its methods may be
// called concurrently.
type answers struct {
	sending *limit.Places[mesh.ClusterName]

	mu    sync.Mutex
	kept  map[answerKey]*answer
	bytes int // of kept
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
	return &answers{sending: limit.NewPlaces[mesh.ClusterName](maxAnswers, maxClusterAnswers), kept: map[answerKey]*answer{}}
}

// turn waits until a gateway of a cluster may be answered; false: not within answerWait, or
// ctx has ended. Whoever may calls end.
func (a *answers) turn(ctx context.Context, c mesh.ClusterName) (end func(), ok bool) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	return a.sending.Take(ctx, c)
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
