package enroll

import (
	"context"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/version"
)

// waitingRoom is what a process that waits for its identity says of itself. It belongs to
// one goroutine.
type waitingRoom struct {
	process     Process
	ports       func() (admin.Ports, error)
	certificate *admin.Condition
	ready       admin.Readiness
	began       time.Time

	said    string // the reason that was logged last
	opened  bool   // the admin ports are, or could not be
	stop    context.CancelFunc
	serving sync.WaitGroup
}

func newWaitingRoom(p Process, ports func() (admin.Ports, error)) *waitingRoom {
	w := &waitingRoom{process: p, ports: ports, began: time.Now(), stop: func() {}}
	w.certificate = w.ready.Condition("certificate", "none yet")
	return w
}

// say tells why there is no identity yet. The first time it opens the admin ports.
func (w *waitingRoom) say(ctx context.Context, why error) {
	if why.Error() != w.said {
		w.said = why.Error()
		w.certificate.Set("none yet: " + w.said)
		w.process.Log.Warn("waits for its identity", "process", w.process.Name, "err", why)
	}
	if w.opened {
		return
	}
	w.opened = true
	ports, err := w.ports()
	if err != nil {
		w.process.Log.Error("nobody can ask what is waited for", "err", err)
		return
	}
	serving, stop := context.WithCancel(ctx)
	w.stop = stop
	server := admin.New(admin.Config{
		Ports: ports, Readiness: &w.ready, Metrics: admin.NewRegistry(), Log: w.process.Log,
		Status: func() any { return w.status() },
	})
	w.serving.Go(func() {
		if err := server.Run(serving); err != nil {
			w.process.Log.Error("nobody can ask what is waited for", "err", err)
		}
	})
}

func (w *waitingRoom) status() *status.Waiting {
	return &status.Waiting{
		Waiting: w.process.Name, Version: version.String(), Uptime: time.Since(w.began).Seconds(), Pending: w.ready.Unmet(),
	}
}

// close closes the admin ports: the process has them now.
func (w *waitingRoom) close() {
	w.stop()
	w.serving.Wait()
}
