// Package beside keeps the sidecar of a pod told of what it serves, by a gateway (package
// internal/beside), and keeps the last answer on disk.
package beside

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/beside"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

const (
	// saveInterval is the least time between two writes of the state file.
	saveInterval = time.Second
	// lookEvery is how often the addresses of this host are looked at: a pod keeps its own,
	// and may have them a moment after its sidecar has begun.
	lookEvery = 5 * time.Second
)

// Follower follows one gateway after the other. Its methods may be called concurrently, but
// for Restore, which comes before Run.
type Follower struct {
	links []*gatewaylink.Link
	path  string // of the state file
	log   *slog.Logger
	here  func() []netip.Addr
	saver *state.Saver
	said  atomic.Pointer[beside.Ports] // as it was last told
	ports state.Store[*[]Port]         // nil in it: not known yet
}

// New returns a follower that does nothing until Run. path is the file that keeps what was
// told last; empty: none. A nil log discards.
func New(links []*gatewaylink.Link, path string, log *slog.Logger) *Follower {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{links: links, path: path, log: log, here: addresses}
	f.saver = state.NewSaver(state.SaverConfig{What: "what this pod serves", Write: f.save, Interval: saveInterval, Log: log})
	return f
}

// Snapshot returns what is served, and a channel that closes when that is past; nil: it is
// not known yet. It must not be changed.
func (f *Follower) Snapshot() (*[]Port, <-chan struct{}) { return f.ports.Snapshot() }

// StateErr returns why what was told is not kept on disk, nil when it is.
func (f *Follower) StateErr() error { return f.saver.Err() }

// Restore takes what was told before the restart. The pod may be another one by now, whose
// addresses are others: of that nothing is taken.
func (f *Follower) Restore() {
	if f.path == "" {
		return
	}
	m, err := load(f.path)
	if err != nil {
		f.log.Warn("what this pod served before is not used", "err", err)
	}
	if m == nil {
		return
	}
	ports, err := portsOf(m, f.here())
	if err != nil {
		f.log.Warn("what this pod served before is not used", "err", err)
		return
	}
	f.said.Store(m)
	f.ports.Set(&ports)
	f.log.Info("serves what it was told last", "ports", len(ports))
}

// Run follows the gateways until ctx ends. It returns nil: unreachable gateways are no
// reason to stop.
func (f *Follower) Run(ctx context.Context) error {
	var saving sync.WaitGroup
	saving.Go(func() { f.saver.Run(ctx) })
	f.follow(ctx)
	saving.Wait()
	return nil
}

// follow keeps one stream open, to one gateway after the other: all of them know the same,
// sooner or later, and what one says is the whole.
func (f *Follower) follow(ctx context.Context) {
	const never = "this gateway does not say what this pod serves"
	gatewaylink.Follow(ctx, f.links, gatewaylink.Following{Stream: f.stream, Never: never, Again: never, Log: f.log})
}

type stream = gatewaylink.Stream[beside.Place, beside.Ports]

// stream is one stream from its dial to its end. stood says that the gateway answered.
func (f *Follower) stream(ctx context.Context, l *gatewaylink.Link) (stood bool, err error) {
	if err = l.Usable(); err == nil {
		err = gatewaylink.Converse(ctx, l,
			func(ctx context.Context, conn grpc.ClientConnInterface) (beside.Beside_FollowClient, error) {
				return beside.NewBesideClient(conn).Follow(ctx)
			},
			func(s *stream) error { return f.talk(l, s, &stood) })
	}
	return stood, err
}

// talk says where this sidecar is, first and after every change, and takes what comes.
func (f *Follower) talk(l *gatewaylink.Link, s *stream, stood *bool) error {
	here := f.here()
	if err := s.Send(placeOf(here)); err != nil {
		return err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case m, ok := <-s.Received():
			if !ok {
				return s.Err()
			}
			if s.Answered() {
				*stood = true
				f.log.Info("this gateway says what this pod serves", "gateway", l.Addr())
			}
			f.take(m, here)
		case <-look.C:
			if now := f.here(); !slices.Equal(now, here) {
				here = now
				if err := s.Send(placeOf(here)); err != nil {
					return err
				}
			}
		}
	}
}

// take puts in force what a gateway said.
func (f *Follower) take(m *beside.Ports, here []netip.Addr) {
	ports, err := portsOf(m, here)
	if err != nil {
		f.log.Error("not all of what a gateway says that this pod serves can be used", "err", err)
	}
	f.said.Store(m)
	f.saver.Changed()
	if old := f.ports.Load(); old == nil || !slices.Equal(*old, ports) {
		f.ports.Set(&ports)
	}
}

func (f *Follower) save() error {
	if f.path == "" || f.said.Load() == nil {
		return nil
	}
	return save(f.path, f.said.Load())
}

func placeOf(here []netip.Addr) *beside.Place {
	m := &beside.Place{}
	for _, a := range here[:min(len(here), beside.MaxAddresses)] {
		m.Addresses = append(m.Addresses, a.String())
	}
	return m
}

// addresses are those of this host, sorted, but for link-local ones, which say nothing
// elsewhere.
func addresses() (all []netip.Addr) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the source of the connection says enough in most networks
	}
	for _, a := range found {
		prefix, err := netip.ParsePrefix(a.String())
		if addr := prefix.Addr().Unmap(); err == nil && !addr.IsLinkLocalUnicast() {
			all = append(all, addr)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}
