package cli

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/resident"
)

// openIdentity returns who the process is, and waits for that with its admin ports open. It
// returns nil without an error when a signal ends the wait.
func openIdentity(ctx context.Context, p enroll.Process, admins, metrics string, log *slog.Logger) (*identity.Source, error) {
	p.Log = log
	id, err := enroll.Open(ctx, p, func() (admin.Ports, error) { return admin.Bind(net.Listen, admins, metrics, "") })
	if err != nil && ctx.Err() != nil {
		return nil, nil
	}
	return id, err
}

// component is a process role.
type component interface {
	Run(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// runUntilSignal runs c, of the given role, until it fails or ctx, which a signal
// ends, does; then it drains c for at most what drain says and ends it. The last log line
// says that it stopped; why, when it failed, is the error.
func runUntilSignal(ctx context.Context, role string, c component, drain func() time.Duration, log *slog.Logger) (err error) {
	began := time.Now()
	defer func() {
		// What never ran has its error and no end.
		if ran := time.Since(began); err == nil || ran >= time.Second {
			log.Info(role+" stopped", "ran", ran.Round(time.Second))
		}
	}()
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	var trimming sync.WaitGroup
	trimming.Go(func() { resident.Trim(running, log) })
	defer trimming.Wait()
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(running) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain())
	defer cancel()
	if err := c.Shutdown(draining); err != nil {
		log.Warn("not everything could be drained", "err", err)
	}
	end()
	return <-ended
}

// onSignals calls handle for each of the signals that arrives, one after the other,
// until the returned function is called, which waits for the last.
func onSignals(handle func(os.Signal), signals ...os.Signal) (stop func()) {
	arrived := make(chan os.Signal, 16)
	signal.Notify(arrived, signals...)
	var handling sync.WaitGroup
	handling.Go(func() {
		for s := range arrived {
			handle(s)
		}
	})
	return func() {
		signal.Stop(arrived)
		close(arrived)
		handling.Wait()
	}
}

// sidecarSignals are the signals that a sidecar handles: SIGHUP, and those that mean
// nothing to it and may mean something to its program.
func sidecarSignals(program bool) []os.Signal {
	if !program {
		return []os.Signal{syscall.SIGHUP}
	}
	return []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGQUIT}
}
