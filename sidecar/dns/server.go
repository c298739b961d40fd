package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Server answers the program's questions. Its methods may be called concurrently.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *boundMetrics
	names   names
	ready   chan struct{} // closed once listeners is set

	waiting  waiting
	conns    *drain.Set // the clients' TCP connections
	shortage shortage
	// preferred is the server of resolv.conf that is asked first: the last one which
	// answered when the one before was silent.
	preferred state.Store[netip.AddrPort]
	// silent is a server in whose place another one answered last. When the program asks
	// it, the next is asked at the same time.
	silent state.Store[netip.AddrPort]

	listeners []net.Listener // those of TCP; not changed after ready
}

// New wires a server and opens nothing. Its error joins all that is wrong.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	s := &Server{cfg: cfg, log: cfg.Log, ready: make(chan struct{}), conns: drain.NewSet()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.ResolvConf == nil {
		s.cfg.ResolvConf = new(ResolvConf)
	}
	s.names = names{release: cfg.Release, until: map[mesh.Destination]time.Time{}}
	if s.names.release == nil {
		s.names.release = func(mesh.Destination) {}
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, func() float64 { return float64(s.names.len()) }); err != nil {
		return nil, err
	}
	s.metrics.addresses.Set(float64(cfg.Table.Len()))
	return s, nil
}

// Ready is closed once every address is bound.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Listeners returns the TCP listeners, in the order of Config.Listen, once Ready is
// closed. They are plain TCP, so that they can be handed to a socket map.
func (s *Server) Listeners() []net.Listener { return s.listeners }

// Run binds every address, then answers until ctx ends, and returns when nothing of
// it runs any more. Questions that wait then get no answer. Its error names the
// address that could not be bound; then nothing was served. It is called once.
func (s *Server) Run(ctx context.Context) error {
	udp, tcp, err := s.bind(ctx)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	for i := range udp {
		running.Go(func() { s.serveUDP(ctx, udp[i]) })
		running.Go(func() { s.serveTCP(ctx, tcp[i]) })
		s.log.Info("answering dns", "addr", tcp[i].Addr().String())
	}
	running.Go(func() {
		tick := time.NewTicker(expireEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.names.expire()
			case <-ctx.Done():
				return
			}
		}
	})
	close(s.ready)
	<-ctx.Done()
	closeAll(udp, tcp)
	running.Wait()
	s.conns.Wait()
	return nil
}

// bind opens all addresses or none.
func (s *Server) bind(ctx context.Context) (udp []*net.UDPConn, tcp []net.Listener, err error) {
	var faults []error
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // see Listeners
	for _, a := range s.cfg.Listen {
		l, u, err := listenBoth(ctx, &plain, a)
		if err != nil {
			faults = append(faults, fmt.Errorf("listen for dns: %w", err))
			continue
		}
		tcp, udp = append(tcp, l), append(udp, u)
	}
	if err := errors.Join(faults...); err != nil {
		closeAll(udp, tcp)
		return nil, nil, err
	}
	s.listeners = tcp
	return udp, tcp, nil
}

// listenBoth listens on a by TCP and UDP. Without a port it takes one that is free
// for both.
func listenBoth(ctx context.Context, by *net.ListenConfig, a netip.AddrPort) (net.Listener, *net.UDPConn, error) {
	for tries := 1; ; tries++ {
		l, err := by.Listen(ctx, "tcp", a.String())
		if err != nil {
			return nil, nil, err
		}
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
		if err == nil {
			return l, u, nil
		}
		_ = l.Close()
		if a.Port() != 0 || tries == portTries {
			return nil, nil, err
		}
	}
}

func closeAll(udp []*net.UDPConn, tcp []net.Listener) {
	for _, c := range udp {
		_ = c.Close()
	}
	for _, l := range tcp {
		_ = l.Close()
	}
}
