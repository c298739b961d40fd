package registry

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// refusals are the latest registrations that were refused. A sidecar that is refused
// tries again every other second for as long as it runs, so that each of them is worth
// a line in the log now and then only. Guarded by Server.mu.
type refusals map[refusedKey]refusal

// refusedKey is a registration as it was asked for.
type refusedKey struct{ peer, service, instance string }

type refusal struct {
	why    string
	logged time.Time
	last   time.Time
}

// Refused is a registration that this gateway refuses. What the peer wrote is as it
// wrote it.
type Refused struct {
	Peer     string // SPIFFE ID
	Service  string
	Instance string
	Why      string
}

func refusedAs(st *stream, m *register.Registration) refusedKey {
	return refusedKey{st.id.String(), fmt.Sprintf("%.256s", m.GetService()), fmt.Sprintf("%.256s", m.GetInstance())}
}

// note reports whether r was not refused because of why lately, and takes note of it.
func (m refusals) note(r refusedKey, why string) (news bool) {
	now, why := time.Now(), fmt.Sprintf("%.512s", why)
	last, ok := m[r]
	if !ok && len(m) >= maxRefusals { // at worst each is said once more
		clear(m)
	}
	if news = !ok || last.why != why || now.Sub(last.logged) >= refusalInterval; news {
		last.logged = now
	}
	last.why, last.last = why, now
	m[r] = last
	return news
}

// refused counts a refusal, and says it once, and again now and then while st's
// sidecar tries on.
func (s *Server) refused(st *stream, msg *register.Registration, err error) {
	why := status.Convert(err)
	s.metrics.refused.WithLabelValues(reasonOf(why.Code())).Inc()
	s.audit.Add(st.event(audit.Refused, msg.GetService()+" "+msg.GetInstance(), why.Message()))
	s.mu.Lock()
	news := s.refusals.note(refusedAs(st, msg), why.Message())
	s.mu.Unlock()
	if news {
		st.log.Warn("registration refused", "service", msg.GetService(), "instance", msg.GetInstance(), "err", why.Message())
	}
}

// accepted forgets that msg was refused before.
func (s *Server) accepted(st *stream, msg *register.Registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refusals, refusedAs(st, msg))
}

// Refused returns the registrations that were refused in the last minute, sorted.
func (s *Server) Refused() []Refused {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Refused
	for k, r := range s.refusals {
		if time.Since(r.last) < refusedFor {
			all = append(all, Refused{k.peer, k.service, k.instance, r.why})
		}
	}
	slices.SortFunc(all, func(a, b Refused) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}
