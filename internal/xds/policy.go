package xds

import (
	"errors"
	"fmt"
	"math"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds/authorization"
)

// PolicyType is the type of a [policy.Set], which is a resource named by its service:
// "shop/orders".
const PolicyType = "type.googleapis.com/isthmus.authorization.v1.ServicePolicy"

// EncodePolicy translates s, which must be about a service of its own namespace.
func EncodePolicy(s *policy.Set) (*discoveryv3.Resource, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	m := &authorization.ServicePolicy{Namespace: s.Service.Namespace, Name: s.Service.Name, Exported: encodePorts(s.Exported)}
	for i := range s.Policies {
		p := &s.Policies[i]
		out := &authorization.Policy{Name: p.Name, Action: authorization.Policy_DENY, DryRun: p.DryRun, Closes: p.Closes}
		if p.Action == policy.Allow {
			out.Action = authorization.Policy_ALLOW
		}
		for n := range p.Rules {
			out.Rules = append(out.Rules, encodeRule(&p.Rules[n]))
		}
		m.Policies = append(m.Policies, out)
	}
	return resource(s.Service.String(), PolicyType, m)
}

func encodeRule(r *policy.Rule) *authorization.Rule {
	out := &authorization.Rule{Methods: r.Methods, Paths: r.Paths}
	for _, c := range r.From {
		out.From = append(out.From, &authorization.Callers{TrustDomain: c.TrustDomain, Cluster: c.Cluster, Namespace: c.Namespace, ServiceAccount: c.ServiceAccount, Anonymous: c.Anonymous, Gateway: c.Gateway})
	}
	out.Ports = encodePorts(r.Ports)
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, &authorization.Header{Name: h.Name, Values: h.Values})
	}
	return out
}

// DecodePolicy reads what [EncodePolicy] wrote. The bytes may come from anywhere. What
// says something that is not known here, as that of a newer gateway may, is an error:
// what is left out of a rule permits more.
func DecodePolicy(b []byte) (*policy.Set, error) {
	m := &authorization.ServicePolicy{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if hasUnknown(m.ProtoReflect()) {
		return nil, errors.New("policy: says something that this version does not know: renew this process")
	}
	exported, err := decodePorts(m.GetExported())
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	s := &policy.Set{Service: mesh.ServiceName{Namespace: m.GetNamespace(), Name: m.GetName()}, Exported: exported}
	if len(m.GetPolicies()) > policy.MaxPolicies {
		return nil, fmt.Errorf("policy: %d policies, at most %d", len(m.GetPolicies()), policy.MaxPolicies)
	}
	for _, p := range m.GetPolicies() {
		out := policy.Policy{Namespace: s.Service.Namespace, Name: p.GetName(), DryRun: p.GetDryRun(), Closes: p.GetCloses()}
		if p.GetName() == "" {
			out.Services = []string{s.Service.Name}
		}
		switch p.GetAction() {
		case authorization.Policy_ALLOW:
			out.Action = policy.Allow
		case authorization.Policy_DENY:
			out.Action = policy.Deny
		default:
			return nil, fmt.Errorf("policy %q: action %d is not known: renew this process", p.GetName(), p.GetAction())
		}
		for _, r := range p.GetRules() {
			rule, err := decodeRule(r)
			if err != nil {
				return nil, fmt.Errorf("policy %q: %w", p.GetName(), err)
			}
			out.Rules = append(out.Rules, rule)
		}
		s.Policies = append(s.Policies, out)
	}
	return s, s.Check()
}

func decodeRule(r *authorization.Rule) (policy.Rule, error) {
	out := policy.Rule{Methods: r.GetMethods(), Paths: r.GetPaths()}
	for _, c := range r.GetFrom() {
		out.From = append(out.From, policy.Callers{TrustDomain: c.GetTrustDomain(), Cluster: c.GetCluster(), Namespace: c.GetNamespace(), ServiceAccount: c.GetServiceAccount(), Anonymous: c.GetAnonymous(), Gateway: c.GetGateway()})
	}
	for _, h := range r.GetHeaders() {
		out.Headers = append(out.Headers, policy.Header{Name: h.GetName(), Values: h.GetValues()})
	}
	var err error
	out.Ports, err = decodePorts(r.GetPorts())
	return out, err
}

func encodePorts(ports []uint16) (out []uint32) {
	for _, p := range ports {
		out = append(out, uint32(p))
	}
	return out
}

func decodePorts(ports []uint32) (out []uint16, err error) {
	if len(ports) > math.MaxUint16 {
		return nil, fmt.Errorf("%d ports", len(ports))
	}
	for _, p := range ports {
		if p == 0 || p > math.MaxUint16 {
			return nil, fmt.Errorf("port %d: must be 1 to 65535", p)
		}
		out = append(out, uint16(p))
	}
	return out, nil
}

// hasUnknown reports whether m, or a message in it, has fields that are not known.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() != nil && f.IsList() { // no message here has others than in lists
			for i := range v.List().Len() {
				found = found || hasUnknown(v.List().Get(i).Message())
			}
		}
		return !found
	})
	return found
}
