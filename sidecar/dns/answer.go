package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

// answer returns the answer to a message that classify called ours, in this zone, packed
// for UDP or TCP; nil: it is beyond understanding.
func (s *Server) answer(ctx context.Context, packet []byte, zone string, udp bool) []byte {
	began := time.Now()
	q := new(dns.Msg)
	r := new(dns.Msg)
	if err := q.Unpack(packet); err != nil {
		// The header and the question are sound, or it were not ours.
		if q.Unpack(packet[:questionEnd(packet)]) != nil {
			return nil
		}
		r.SetRcode(q, dns.RcodeFormatError)
	} else {
		s.resolve(ctx, q, r, zone)
	}
	r.Compress = true
	r.Truncate(roomFor(q, udp))
	b, err := r.Pack()
	if err != nil { // a name that cannot be said again
		s.log.Warn("dns answer cannot be packed", "service", q.Question[0].Name, "err", err)
		return servfail(packet)
	}
	s.metrics.answered(r.Rcode, time.Since(began))
	return b
}

// roomFor returns how long an answer to q may be, in bytes.
func roomFor(q *dns.Msg, udp bool) int {
	if !udp {
		return dns.MaxMsgSize
	}
	if opt := q.IsEdns0(); opt != nil {
		return max(dns.MinMsgSize, min(int(opt.UDPSize()), maxUDPAnswer))
	}
	return dns.MinMsgSize
}

// resolve makes r the answer to q, whose only question is in the zone.
func (s *Server) resolve(ctx context.Context, q, r *dns.Msg, zone string) {
	r.SetReply(q)
	r.Authoritative = true
	r.RecursionAvailable = true
	question := q.Question[0]
	if opt := q.IsEdns0(); opt != nil {
		if slices.ContainsFunc(q.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT && rr != dns.RR(opt) }) {
			r.Rcode = dns.RcodeFormatError // RFC 6891 §6.1.1
			return
		}
		r.SetEdns0(maxUDPAnswer, false)
		if opt.Version() != 0 {
			r.Rcode = dns.RcodeBadVers
			return
		}
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		r.Opcode = q.Opcode
		r.Rcode = dns.RcodeNotImplemented
		return
	case question.Qclass != dns.ClassINET && question.Qclass != dns.ClassANY,
		question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR:
		r.Rcode = dns.RcodeRefused
		return
	}
	canonical := dns.CanonicalName(question.Name)
	m := s.understand(canonical, zone)
	switch m.kind {
	case nothing:
		r.Rcode = dns.RcodeNameError
	case apex:
		if asks(question, dns.TypeSOA) {
			r.Answer = []dns.RR{soa(zone)}
			return
		}
	case between:
		if !s.cfg.Table.hasBelow(canonical) {
			r.Rcode = dns.RcodeNameError
		}
	case reverseBetween:
		if !s.cfg.Table.hasAny(m.first, m.last) {
			r.Rcode = dns.RcodeNameError
		}
	case reverse:
		s.resolveReverse(r, question, m)
	case service, ports:
		s.resolveService(ctx, r, question, m)
	}
	if len(r.Answer) == 0 && r.Rcode != dns.RcodeServerFailure {
		r.Ns = []dns.RR{soa(zone)}
	}
}

// resolveService answers for a name that a service may have.
func (s *Server) resolveService(ctx context.Context, r *dns.Msg, question dns.Question, m meaning) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	s.names.asked(m.service)
	all, err := s.cfg.Ports(ctx, m.service)
	after := forgetPresent
	if err != nil {
		after = forgetAbsent
	}
	s.names.answered(m.service, after)
	switch {
	case errors.Is(err, routes.ErrAbsent):
		if m.kind == ports || !s.cfg.Table.hasBelow(dns.CanonicalName(question.Name)) {
			r.Rcode = dns.RcodeNameError
		}
		s.log.Debug("no such service", "service", m.service.Host())
		return
	case err != nil:
		s.fail(r, m, err)
		return
	}
	v4, v6, err := s.cfg.Table.Of(m.service)
	if err != nil {
		s.fail(r, m, err)
		return
	}
	s.metrics.addresses.Set(float64(s.cfg.Table.Len()))
	if s.cfg.WithoutIPv6 {
		v6 = netip.Addr{}
	}
	answerService(r, question, m, all, v4, v6)
}

// answerService writes what is known of a service into r: its addresses, and its ports for whom
// asks for them. v6 is zero for who shall not see it.
func answerService(r *dns.Msg, question dns.Question, m meaning, all []mesh.RoutePort, v4, v6 netip.Addr) {
	addresses := func(name string, types ...uint16) (rrs []dns.RR) {
		for _, t := range types {
			switch {
			case t == dns.TypeA:
				rrs = append(rrs, &dns.A{Hdr: header(name, dns.TypeA), A: v4.AsSlice()})
			case t == dns.TypeAAAA && v6.IsValid():
				rrs = append(rrs, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: v6.AsSlice()})
			}
		}
		return rrs
	}
	if m.kind == ports {
		if m.port == "" && len(all) > 0 {
			return // _tcp.orders.shop.mesh: there is something below it
		}
		if all = offers(all, m.port); len(all) == 0 {
			r.Rcode = dns.RcodeNameError
			return
		}
	} else {
		for _, t := range [...]uint16{dns.TypeA, dns.TypeAAAA} {
			if asks(question, t) {
				r.Answer = append(r.Answer, addresses(question.Name, t)...)
			}
		}
	}
	if asks(question, dns.TypeSRV) && (m.kind == ports || question.Qtype == dns.TypeSRV) {
		target := m.service.Host() + "."
		for _, p := range all {
			r.Answer = append(r.Answer, &dns.SRV{Hdr: header(question.Name, dns.TypeSRV), Weight: 100, Port: p.Number, Target: target})
		}
		if len(all) > 0 {
			r.Extra = append(addresses(target, dns.TypeA, dns.TypeAAAA), r.Extra...)
		}
	}
}

// resolveReverse answers who has a virtual address.
func (s *Server) resolveReverse(r *dns.Msg, question dns.Question, m meaning) {
	d, ok := s.cfg.Table.Name(m.address)
	if !ok {
		r.Rcode = dns.RcodeNameError
		return
	}
	if asks(question, dns.TypePTR) {
		r.Answer = []dns.RR{&dns.PTR{Hdr: header(question.Name, dns.TypePTR), Ptr: d.Host() + "."}}
	}
}

// fail makes r a SERVFAIL that says why to those who understand (RFC 8914).
func (s *Server) fail(r *dns.Msg, m meaning, err error) {
	s.log.Warn("dns question without an answer", "service", m.service.Host(), "err", err)
	r.Rcode = dns.RcodeServerFailure
	r.Authoritative = false
	if opt := r.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady, ExtraText: err.Error()})
	}
}

func asks(q dns.Question, t uint16) bool { return q.Qtype == t || q.Qtype == dns.TypeANY }

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// soa is the record that says for how long a negative answer holds (RFC 2308).
func soa(zone string) dns.RR {
	return &dns.SOA{
		Hdr: header(zone, dns.TypeSOA), Ns: "ns." + meshZone, Mbox: "hostmaster." + meshZone,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

// formerr answers packet, whose question cannot be read or said again.
func formerr(packet []byte) []byte {
	r := make([]byte, headerSize)
	copy(r, packet[:2])
	r[2] = packet[2]&(opcodeBits|flagRecursionDesired) | flagResponse
	r[3] = dns.RcodeFormatError
	return r
}

// questionEnd returns where the first question of a message ends.
func questionEnd(packet []byte) int {
	_, at, err := dns.UnpackDomainName(packet, headerSize)
	if err != nil {
		return len(packet)
	}
	return min(at+4, len(packet))
}

// servfail answers packet with SERVFAIL and its own question, whatever
// else it says; nil when it has none.
func servfail(packet []byte) []byte {
	q := new(dns.Msg)
	if err := q.Unpack(packet); err != nil && len(q.Question) == 0 {
		return nil
	}
	r := new(dns.Msg)
	r.SetRcode(q, dns.RcodeServerFailure)
	r.RecursionAvailable = true
	if q.IsEdns0() != nil {
		r.SetEdns0(maxUDPAnswer, false)
	}
	b, err := r.Pack()
	if err != nil {
		return nil
	}
	return b
}
