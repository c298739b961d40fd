package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Action is what a policy does with who matches it.
type Action string

// The actions.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// The bounds of what is written, far above what anybody needs: a decision looks at
// every rule of its service.
const (
	MaxPolicies = 256 // of a service
	MaxRules    = 128 // of a policy
	MaxValues   = 128 // of a list in a rule
	MaxText     = 512 // bytes of a path, a method, a header's name or value

	maxWhy = 256 // bytes of the reason of a [Closing]

	// MaxBytes bounds all policies of a namespace, see [Policy.Size]: those of a service go
	// to its sidecars in one message, which gRPC takes up to 4 MiB.
	MaxBytes = 1 << 20
)

// Policy is an AuthorizationPolicy, or the short form of one, as it is written.
type Policy struct {
	Namespace string
	Name      string   // empty: the allow list of the Service resource of Services[0]
	Services  []string // names of services of the namespace; nil: all of them
	Action    Action
	Rules     []Rule
	DryRun    bool
	// Closes is why it stands for one that could not be read, see [Closing]; empty: it is as it was written.
	Closes string
}

// Rule matches a request when each of its conditions does. A condition without values
// holds for everything, but From for nobody in a rule that allows.
type Rule struct {
	From    []Callers
	Ports   []uint16 // of the service, as callers name it
	Methods []string
	Paths   []string // exact, or "/prefix/*": the prefix itself and all below it
	Headers []Header
}

// Header is a condition on the values of one header field.
type Header struct {
	Name string // in lower case
	// Values are exact, or end with "*" for a prefix; none: the field is there.
	// A rule that allows asks it of every value of the field, one that denies of
	// any of them, lists with commas taken apart.
	Values []string
}

// L7 reports whether r asks for more than a connection shows.
func (r *Rule) L7() bool { return len(r.Methods)+len(r.Paths)+len(r.Headers) > 0 }

// For reports whether p is about a service.
func (p *Policy) For(service mesh.ServiceName) bool {
	return p.Namespace == service.Namespace && (p.Services == nil || slices.Contains(p.Services, service.Name))
}

// Size is about how many bytes p is on the wire.
func (p *Policy) Size() int {
	const each = 8 // of what is around a text
	n := len(p.Name) + len(p.Closes) + each
	for i := range p.Rules {
		r := &p.Rules[i]
		n += each + each*len(r.Ports)
		for _, c := range r.From {
			n += len(c.TrustDomain) + len(c.Cluster) + len(c.Namespace) + len(c.ServiceAccount) + 2*each
		}
		for _, texts := range [][]string{r.Methods, r.Paths} {
			for _, s := range texts {
				n += len(s) + each
			}
		}
		for _, h := range r.Headers {
			n += len(h.Name) + each
			for _, s := range h.Values {
				n += len(s) + each
			}
		}
	}
	return n
}

// Closing returns the policy that refuses every call to services of a namespace: what the one of
// the name would refuse is not known, for the reason why. Of a name that no policy can have, which
// may be all that is wrong, the reason tells.
func Closing(namespace, name, why string) Policy {
	why = strings.ReplaceAll(why, "\n", "; ")
	if mesh.CheckLabel(name) != nil {
		name, why = "unreadable", name+": "+why
	}
	if len(why) > maxWhy {
		why = why[:maxWhy-3] + "..."
	}
	why = strings.ToValidUTF8(why, "")
	return Policy{Namespace: namespace, Name: name, Action: Deny, Rules: []Rule{{}}, Closes: why}
}

// String names p as its operator knows it.
func (p *Policy) String() string {
	if p.Name == "" {
		return "allow list of Service " + p.Namespace + "/" + strings.Join(p.Services, ",")
	}
	return "AuthorizationPolicy " + p.Namespace + "/" + p.Name
}

// Set is everything that decides who may call one service of one cluster. It says
// the same everywhere; which cluster and trust domain it is read in comes beside.
type Set struct {
	Service  mesh.ServiceName
	Exported []uint16 // the ports that other clusters may call at all
	Policies []Policy // sorted by name
}

// SetOf returns what is in force for a service, out of all policies of its cluster.
func SetOf(service mesh.ServiceName, exported []uint16, all []Policy) *Set {
	s := &Set{Service: service, Exported: exported}
	for i := range all {
		if all[i].For(service) {
			s.Policies = append(s.Policies, all[i])
		}
	}
	slices.SortFunc(s.Policies, func(a, b Policy) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// Check returns an error for everything in p that cannot be meant. fault is called
// with the key below spec, as the resource writes it.
func (p *Policy) Check(fault func(key, format string, args ...any)) {
	if p.Action != Allow && p.Action != Deny {
		fault("action", "%q is not known: write allow or deny", p.Action)
	}
	for i, s := range p.Services {
		if err := mesh.CheckLabel(s); err != nil {
			fault(fmt.Sprintf("services[%d]", i), "%v", err)
		}
	}
	if len(p.Closes) > maxWhy {
		fault("closes", "has %d bytes, at most %d are read", len(p.Closes), maxWhy)
	}
	if len(p.Rules) > MaxRules || len(p.Services) > MaxValues {
		fault("rules", "has %d rules for %d services: at most %d and %d are read", len(p.Rules), len(p.Services), MaxRules, MaxValues)
		return
	}
	for i := range p.Rules {
		p.Rules[i].check(p.Action, fmt.Sprintf("rules[%d]", i), fault)
	}
}

func (r *Rule) check(action Action, key string, fault func(key, format string, args ...any)) {
	if len(r.From) == 0 && action == Allow {
		fault(key+".from", "is missing: write who may call, such as [front/web]; [\"*\"] is everybody in the mesh")
	}
	if n := max(len(r.From), len(r.Ports), len(r.Methods), len(r.Paths), len(r.Headers)); n > MaxValues {
		fault(key, "has a list of %d: at most %d are read", n, MaxValues)
		return
	}
	for i := range r.From {
		if err := r.From[i].Check(); err != nil {
			fault(fmt.Sprintf("%s.from[%d]", key, i), "%v", err)
		}
	}
	for i, p := range r.Ports {
		if p == 0 {
			fault(fmt.Sprintf("%s.ports[%d]", key, i), "must be 1 to 65535")
		}
	}
	for i, m := range r.Methods {
		if err := checkToken(m); err != nil {
			fault(fmt.Sprintf("%s.methods[%d]", key, i), "%v", err)
		} else if upper := strings.ToUpper(m); m != upper {
			fault(fmt.Sprintf("%s.methods[%d]", key, i), "%q: methods are in upper case, and this would match none: write %s", m, upper)
		}
	}
	for i, p := range r.Paths {
		if err := checkPath(p); err != nil {
			fault(fmt.Sprintf("%s.paths[%d]", key, i), "%v", err)
		}
	}
	for i := range r.Headers {
		r.Headers[i].check(fmt.Sprintf("%s.headers[%d]", key, i), fault)
	}
}

func (h *Header) check(key string, fault func(key, format string, args ...any)) {
	if err := checkToken(h.Name); err != nil {
		fault(key+".name", "%v", err)
	} else if h.Name != strings.ToLower(h.Name) {
		fault(key+".name", "%q: write it in lower case", h.Name)
	}
	if len(h.Values) > MaxValues {
		fault(key+".values", "has %d values: at most %d are read", len(h.Values), MaxValues)
		return
	}
	for i, v := range h.Values {
		if err := checkValue(v); err != nil {
			fault(fmt.Sprintf("%s.values[%d]", key, i), "%v", err)
		}
	}
}

// checkToken accepts a token of RFC 9110 §5.6.2.
func checkToken(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	if len(s) > MaxText {
		return fmt.Errorf("is longer than %d bytes", MaxText)
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return fmt.Errorf("%q is no name of a method or header field", s)
		}
	}
	return nil
}

// checkValue accepts what a header field can hold, with * at its end only.
func checkValue(s string) error {
	switch {
	case len(s) > MaxText:
		return fmt.Errorf("is longer than %d bytes", MaxText)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.TrimSpace(s) != s:
		return fmt.Errorf("%q can be no header field's value", s)
	case strings.Contains(strings.TrimSuffix(s, Any), Any):
		return fmt.Errorf("%q: * may only stand at the end", s)
	}
	return nil
}

// Check returns what is wrong with s: its service, or a policy that is not about it.
func (s *Set) Check() error {
	if err := mesh.CheckLabel(s.Service.Namespace); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if err := mesh.CheckLabel(s.Service.Name); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if len(s.Policies) > MaxPolicies {
		return fmt.Errorf("%s has %d policies: at most %d are read", s.Service, len(s.Policies), MaxPolicies)
	}
	if len(s.Exported) > math.MaxUint16 || slices.Contains(s.Exported, 0) {
		return fmt.Errorf("%s: its exported ports must be 1 to 65535, each once", s.Service)
	}
	var faults []error
	for i := range s.Policies {
		p := &s.Policies[i]
		if p.Name != "" {
			if err := mesh.CheckLabel(p.Name); err != nil {
				faults = append(faults, fmt.Errorf("a policy's name: %w", err))
			}
		}
		if !p.For(s.Service) {
			faults = append(faults, fmt.Errorf("%s is not about %s", p, s.Service))
		}
		p.Check(func(key, format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s: %s: %s", p, key, fmt.Sprintf(format, args...)))
		})
	}
	return errors.Join(faults...)
}
