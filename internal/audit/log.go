package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

const (
	// maxQueued bounds what waits for the disk.
	maxQueued = 4096
	// repeats is the time within which equal events are one line and a count, and
	// grantedRepeats the same for calls that were granted.
	repeats        = time.Minute
	grantedRepeats = time.Second
	// maxRepeating bounds the different events of either time that are told apart.
	maxRepeating = 1024
)

// Log is the stream of one process. A nil Log discards. All methods may be called
// concurrently.
type Log struct {
	path   string
	served bool // calls that were granted, too
	log    *slog.Logger

	queue   chan Event
	lost    atomic.Uint64 // since the last line that said so
	written prometheus.Counter
	dropped prometheus.Counter

	// Run's.
	file    *os.File
	failing bool
	events  *fold // of the present minute
	granted *fold // calls of the present second
}

// Open returns the stream that appends to the file of that path, which it makes
// when it is missing, with its directory, readable by its owner only. With served, calls that were
// granted are part of it. An empty path is no stream: nil. log is told when the
// file cannot be written.
func Open(path string, served bool, log *slog.Logger) (*Log, error) {
	if path == "" {
		return nil, nil
	}
	l := &Log{
		path: path, served: served, log: log,
		queue:  make(chan Event, maxQueued),
		events: newFold(maxRepeating, false), granted: newFold(maxRepeating, true),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_audit_events_total", Help: "Lines written to the audit stream.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_audit_lost_total", Help: "Audit events that were not written: the disk was too slow, or full.",
		}),
	}
	// It may be the state directory, which is made later.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("audit stream: %w", err)
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Register registers the stream's metrics.
func (l *Log) Register(reg prometheus.Registerer) error {
	if l == nil {
		return nil
	}
	return prom.Register(reg, l.written, l.dropped)
}

// Served reports whether calls that were granted are wanted.
func (l *Log) Served() bool { return l != nil && l.served }

// Add has e written. It never blocks.
func (l *Log) Add(e Event) {
	if l == nil || e.Kind == Call && e.Decision == Granted && !l.served {
		return
	}
	select {
	case l.queue <- e.bounded():
	default:
		l.lost.Add(1)
		l.dropped.Inc()
	}
}

// Run writes until ctx ends, and then what is queued. It returns no error: a
// process whose disk is full still serves.
func (l *Log) Run(ctx context.Context) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	defer func() { _ = l.file.Close() }()
	minute, second := time.NewTicker(repeats), time.NewTicker(grantedRepeats)
	defer minute.Stop()
	defer second.Stop()
	for {
		select {
		case e := <-l.queue:
			l.take(e)
		case <-minute.C:
			l.events.end(l.write)
		case <-second.C:
			l.endSecond()
		case <-ctx.Done():
			for {
				select {
				case e := <-l.queue:
					l.take(e)
					continue
				default:
				}
				l.events.end(l.write)
				l.endSecond()
				return nil
			}
		}
	}
}

// take writes e, or counts it when there was its like.
func (l *Log) take(e Event) {
	f := l.events
	if e.Kind == Call && e.Decision == Granted {
		f = l.granted
	}
	if f.first(e) {
		l.write(e, 0)
	}
}

// endSecond writes which granted calls repeated themselves, and what was lost; and looks
// whether the file is still the one of its name.
func (l *Log) endSecond() {
	l.granted.end(l.write)
	if lost := l.lost.Swap(0); lost > 0 {
		l.write(Event{Kind: Audit, Decision: Lost, What: fmt.Sprintf("%d events", lost), Why: "the queue was full"}, 0)
	}
	l.follow()
}

// line is an event as it is written.
type line struct {
	Time time.Time `json:"time"`
	Event
	Again int `json:"again,omitempty"` // how often it repeated itself since the line before
}

func (l *Log) write(e Event, again int) {
	text, err := json.Marshal(line{Time: time.Now().UTC(), Event: e, Again: again})
	if err == nil {
		_, err = l.file.Write(append(text, '\n'))
	}
	l.wrote(err)
}

// wrote counts, and says once that the file cannot be written, and once that it can again.
func (l *Log) wrote(err error) {
	if err != nil {
		l.dropped.Inc()
		if !l.failing {
			l.log.Error("the audit stream cannot be written", "file", l.path, "err", err)
		}
	} else {
		l.written.Inc()
		if l.failing {
			l.log.Info("the audit stream is written again", "file", l.path)
		}
	}
	l.failing = err != nil
}

// follow opens the file anew when its name leads elsewhere: it was rotated.
func (l *Log) follow() {
	named, err := os.Stat(l.path)
	if err == nil {
		var held os.FileInfo
		if held, err = l.file.Stat(); err == nil && os.SameFile(named, held) {
			return
		}
	}
	before := l.file
	if err := l.open(); err != nil {
		if !l.failing {
			l.log.Error("the audit stream cannot be opened again", "file", l.path, "err", err)
		}
		l.failing = true
		return
	}
	_ = before.Close() // what was written is the kernel's
}

// open opens the file to append to it.
func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit stream: %w", err)
	}
	l.file = f
	return nil
}
