package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// serveUDP answers what comes on conn until that is closed, and returns when no
// question waits any more.
func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn) {
	var questions sync.WaitGroup
	defer questions.Wait()
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, maxMessage)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Debug("dns read", "err", err) // an earlier answer's ICMP, mostly
			select {
			case <-time.After(readPause):
			case <-ctx.Done():
			}
			continue
		}
		v, zone := s.classify(buf[:n])
		if v == drop {
			s.metrics.dropped.Inc()
			continue
		}
		if !s.waiting.begin(from) {
			s.metrics.dropped.Inc()
			continue
		}
		packet := slices.Clone(buf[:n])
		questions.Go(func() {
			defer s.waiting.end(from)
			var answer []byte
			if v == perhaps {
				if v = forward; s.isInMesh(ctx, packet, zone) {
					v = ours
				}
			}
			switch v {
			case ours:
				answer = s.answer(ctx, packet, zone, true)
			case forward:
				answer = s.forwardUDP(ctx, packet, s.originalServer(at, from))
				answer = s.followAlias(ctx, packet, answer, true)
			case malformed:
				s.metrics.malformed.Inc()
				answer = formerr(packet)
			}
			if answer != nil && ctx.Err() == nil {
				_ = conn.SetWriteDeadline(time.Now().Add(writeLimit))
				_, _ = conn.WriteToUDPAddrPort(answer, from) // lost, like any datagram
			}
		})
	}
}

// waiting bounds the questions that wait over UDP, and those of one client, so that
// the others are heard while a client asks for what nobody answers. The zero value is
// ready; its methods may be called concurrently.
type waiting struct {
	mu       sync.Mutex
	all      int
	byClient map[netip.AddrPort]int
}

// begin reports whether a client's question may wait. If so, end must follow.
func (w *waiting) begin(client netip.AddrPort) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= maxQuestions || w.byClient[client] >= maxPerClient {
		return false
	}
	if w.byClient == nil {
		w.byClient = map[netip.AddrPort]int{}
	}
	w.all++
	w.byClient[client]++
	return true
}

func (w *waiting) end(client netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.byClient[client]--; w.byClient[client] == 0 {
		delete(w.byClient, client)
	}
}

// reply is how one server took a question.
type reply struct {
	server netip.AddrPort
	packet []byte
	err    error
}

// forwardUDP passes packet to the servers, the next one whenever one fails or is
// silent, and returns the first reply as it came. See servers.
func (s *Server) forwardUDP(ctx context.Context, packet []byte, original netip.AddrPort) []byte {
	began := time.Now()
	ctx, cancel := context.WithDeadline(ctx, began.Add(forwardLimit))
	servers := s.servers(original)
	replies := make(chan reply, len(servers))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel() // before the wait: it ends the reads
	hedge := time.NewTimer(0)
	defer hedge.Stop()
	asked, failed := 0, 0
	var last error = errNoServers
	for failed < len(servers) {
		select {
		case <-hedge.C:
			if asked == len(servers) {
				continue // the timer was not set again
			}
			server := servers[asked]
			asked++
			asking.Go(func() {
				b, err := s.exchange(ctx, server, packet)
				replies <- reply{server, b, err}
			})
			switch {
			case asked == len(servers):
			case server == s.silent.Load():
				hedge.Reset(0)
			default:
				hedge.Reset(hedgeAfter)
			}
		case r := <-replies:
			if r.err == nil {
				if r.server != servers[0] {
					s.preferred.Set(r.server)
					s.silent.Set(servers[0])
				} else if r.server == s.silent.Load() {
					s.silent.Set(netip.AddrPort{})
				}
				s.metrics.forwarded[endAnswered].Inc()
				return r.packet
			}
			failed++
			last = r.err
			if asked < len(servers) {
				hedge.Reset(0)
			}
		}
	}
	s.metrics.forwarded[endFailed].Inc()
	s.log.Debug("dns question could not be forwarded", "err", last)
	return servfail(packet)
}

// exchange asks one server, and waits on when something else comes than its answer. Each
// question has a socket of its own, which takes nothing from other addresses and whose
// random port protects the answer as the program's own would.
func (s *Server) exchange(ctx context.Context, server netip.AddrPort, packet []byte) ([]byte, error) {
	conn, err := s.dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	question := askedBy(packet)
	buf := buffers.Get().(*[maxMessage]byte)
	defer buffers.Put(buf)
	for {
		n, err := conn.Read(buf[:])
		if err != nil {
			return nil, err
		}
		if question.isAnswer(buf[:n]) {
			return slices.Clone(buf[:n]), nil
		}
		s.metrics.mismatched.Inc()
	}
}

var buffers = sync.Pool{New: func() any { return new([maxMessage]byte) }}
