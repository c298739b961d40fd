package dns

import (
	"bytes"
	"context"
	"slices"

	"github.com/miekg/dns"
)

// followAlias returns a server's answer to packet with the addresses that it lacks when it ends in an
// alias for a service of the mesh: a CNAME of another zone to orders.shop.mesh, whose
// target nobody outside knows. Any other answer is returned as it came. It may wait as
// an answer of ours does.
func (s *Server) followAlias(ctx context.Context, packet, reply []byte, udp bool) []byte {
	if !mayEndInMesh(reply) {
		return reply
	}
	q, r := new(dns.Msg), new(dns.Msg)
	if q.Unpack(packet) != nil || r.Unpack(reply) != nil || q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || r.Truncated {
		return reply
	}
	question := q.Question[0]
	if question.Qclass != dns.ClassINET || question.Qtype != dns.TypeA && question.Qtype != dns.TypeAAAA {
		return reply
	}
	chain, target := aliases(question.Name, r.Answer)
	zone := zoneOf(dns.CanonicalName(target), nil)
	if len(chain) == 0 || zone != meshZone && zone != clustersetZone {
		return reply
	}
	more, end := new(dns.Msg), new(dns.Msg)
	more.SetQuestion(target, question.Qtype)
	s.resolve(ctx, more, end, zone)
	r.Rcode, r.Authoritative, r.AuthenticatedData = end.Rcode, false, false
	r.Answer, r.Ns = append(chain, end.Answer...), end.Ns
	r.Extra = slices.DeleteFunc(r.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
	if r.Rcode == dns.RcodeServerFailure {
		r.Answer = nil
	}
	r.Compress = true
	r.Truncate(roomFor(q, udp))
	b, err := r.Pack()
	if err != nil {
		return reply
	}
	return b
}

// mayEndInMesh reports whether an answer contains the name of a zone of ours, so that
// hardly any other is looked into. The last labels of a name are never compressed away.
func mayEndInMesh(reply []byte) bool {
	lower := bytes.ToLower(reply)
	return bytes.Contains(lower, []byte("\x04mesh\x00")) || bytes.Contains(lower, []byte("\x03svc\x0aclusterset\x05local\x00"))
}

// aliases returns the CNAMEs that lead from a name, in order, and where they end.
func aliases(name string, answers []dns.RR) (chain []dns.RR, target string) {
	for len(chain) < maxAliases {
		at := slices.IndexFunc(answers, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeCNAME && dns.CanonicalName(rr.Header().Name) == dns.CanonicalName(name)
		})
		if at < 0 {
			break
		}
		chain, name = append(chain, answers[at]), answers[at].(*dns.CNAME).Target
	}
	return chain, name
}
