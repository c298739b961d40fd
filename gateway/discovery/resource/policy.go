package resource

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// authorizationResource is isthmus.io/v1alpha1 AuthorizationPolicy.
type authorizationResource struct {
	// isthmus.io/v1alpha1. Required.
	APIVersion string `yaml:"apiVersion"`
	// AuthorizationPolicy. Required.
	Kind string `yaml:"kind"`
	// The policy's name, and the namespace whose services it is about.
	Metadata metadata `yaml:"metadata"`
	// What the policy says.
	Spec struct {
		// Names of the services of the namespace that it is about. Default: all of
		// them.
		Services []string `yaml:"services"`
		// allow: who matches a rule may call, and nobody else but by another allow
		// policy of the service; the default is in force no more. deny: who matches
		// a rule may not, whatever allows it. Default: allow.
		Action policy.Action `yaml:"action"`
		// Whether the policy only counts, logs and audits what it would change.
		// Default: false.
		DryRun bool `yaml:"dryRun"`
		// A call matches when it matches one of them. Required; [] with allow allows
		// nobody.
		Rules []ruleResource `yaml:"rules"`
	} `yaml:"spec"`
}

// ruleResource matches when each of its conditions does.
type ruleResource struct {
	// Who calls. Required with allow. Default with deny: everybody.
	From []callersResource `yaml:"from"`
	// Ports of the service, as callers name them. Default: all.
	Ports []uint16 `yaml:"ports"`
	// Methods of HTTP requests. Default: all.
	Methods []string `yaml:"methods"`
	// Paths of HTTP requests: exact, or with /* behind for a path and all below it.
	// Default: all.
	Paths []string `yaml:"paths"`
	// Header fields of HTTP requests, each of which must match. Default: none.
	Headers []headerResource `yaml:"headers"`
}

// callersResource has a short form: namespace/account, a SPIFFE ID, * for every workload,
// or anonymous.
type callersResource struct {
	// The trust domain, or *. Default: the cluster's own; with deny, *.
	TrustDomain string `yaml:"trustDomain"`
	// The cluster, or *. Default: those whose certificate names the caller's
	// namespace, or no namespace; with deny, *.
	Cluster string `yaml:"cluster"`
	// The namespace, or *. Default: that of the policy; with deny, *.
	Namespace string `yaml:"namespace"`
	// The service account, or *. Default: *.
	ServiceAccount string `yaml:"serviceAccount"`
	// Callers without an identity, whom a sidecar serves with interception.inbound:
	// permissive. Nothing else may stand beside it. Default: false.
	Anonymous bool `yaml:"anonymous"`
	// A gateway that calls for programs without a sidecar through its cluster's entrance, or
	// * for all of them; for services without sidecars. Default: none.
	Gateway string `yaml:"gateway"`
}

// UnmarshalText reads the short form.
func (c *callersResource) UnmarshalText(b []byte) error {
	read, err := policy.ParseCallers(string(b))
	*c = callersResource(read)
	return err
}

type headerResource struct {
	// The field's name, in lower case. Required.
	Name string `yaml:"name"`
	// Its values: exact, or with * behind for what they begin with. Default: any.
	Values []string `yaml:"values"`
}

// Policy is a policy and the line at which it is written.
type Policy struct {
	policy.Policy
	Line int
}

func (r *reader) authorization() policy.Policy {
	var a authorizationResource
	if !r.decode(&a) {
		return policy.Policy{}
	}
	name := r.name(a.Metadata)
	p := policy.Policy{Namespace: name.Namespace, Name: name.Name, Services: a.Spec.Services, Action: a.Spec.Action, DryRun: a.Spec.DryRun}
	if p.Action == "" {
		p.Action = policy.Allow
	}
	if len(a.Spec.Rules) == 0 && (p.Action == policy.Deny || !r.doc.Has("spec.rules")) {
		r.fault("spec.rules", "is missing: write who may or may not call, such as [{from: [front/web]}]")
	}
	if r.doc.Has("spec.services") && len(p.Services) == 0 {
		r.fault("spec.services", "names none: name services, or remove it for all of namespace %s", p.Namespace)
	}
	for i := range a.Spec.Rules {
		p.Rules = append(p.Rules, r.rule(fmt.Sprintf("spec.rules[%d].", i), &a.Spec.Rules[i]))
	}
	p.Check(func(key, format string, args ...any) { r.fault("spec."+key, format, args...) })
	return p
}

// rule reads a rule. A list that is there and empty could be meant for all or for none.
func (r *reader) rule(key string, s *ruleResource) policy.Rule {
	for _, list := range []struct {
		name   string
		length int
	}{{"from", len(s.From)}, {"ports", len(s.Ports)}, {"methods", len(s.Methods)}, {"paths", len(s.Paths)}, {"headers", len(s.Headers)}} {
		if list.length == 0 && r.doc.Has(key+list.name) {
			r.fault(key+list.name, "names none: remove it for all")
		}
	}
	out := policy.Rule{Ports: s.Ports, Methods: s.Methods, Paths: s.Paths}
	for _, c := range s.From {
		out.From = append(out.From, policy.Callers(c))
	}
	for i, h := range s.Headers {
		if k := fmt.Sprintf("%sheaders[%d].values", key, i); len(h.Values) == 0 && r.doc.Has(k) {
			r.fault(k, "names none: remove it for any")
		}
		out.Headers = append(out.Headers, policy.Header(h))
	}
	return out
}

// allow makes a policy of the allow list of a Service resource; nil: it has none.
func (r *reader) allow(s *serviceResource) *policy.Policy {
	if !r.doc.Has("spec.allow") {
		return nil
	}
	p := &policy.Policy{Namespace: s.Metadata.Namespace, Services: []string{s.Metadata.Name}, Action: policy.Allow}
	for _, c := range s.Spec.Allow {
		p.Rules = append(p.Rules, policy.Rule{From: []policy.Callers{policy.Callers(c)}})
	}
	p.Check(func(key, format string, args ...any) {
		// rules[2].from[0] is what stands at allow[2].
		if index, found := strings.CutPrefix(key, "rules"); found {
			index, _, _ = strings.Cut(index, ".")
			r.fault("spec.allow"+index, format, args...)
		}
	})
	return p
}
