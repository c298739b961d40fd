package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Any is the segment of a pattern that stands for every value.
const Any = "*"

// anonymous is the text form of callers without an identity.
const anonymous = "anonymous"

// Caller is who calls, as the mutual TLS of its connection has proved.
type Caller struct {
	identity.ID
	// Anonymous says that it proved nothing: a sidecar serves such callers when it is
	// permissive. ID is zero.
	Anonymous bool
	// Unvouched says that the certificate of the caller's cluster names the namespaces
	// that it may speak for, and the caller's is not one of them.
	Unvouched bool
}

// CallerOf returns the caller that a peer is.
func CallerOf(p identity.Peer) Caller {
	return Caller{ID: p.ID, Unvouched: !p.MayOffer(p.Namespace)}
}

// String names the caller: its SPIFFE ID, or that it has none.
func (c *Caller) String() string {
	if c.Anonymous {
		return anonymous
	}
	return c.ID.String()
}

// everybody is the pattern of every workload.
var everybody = Callers{TrustDomain: Any, Cluster: Any, Namespace: Any, ServiceAccount: Any}

// Callers is a pattern of identities, a segment each. "*" is every value; what is
// left out ("") is told in the package comment.
type Callers struct {
	TrustDomain    string
	Cluster        string
	Namespace      string
	ServiceAccount string
	Anonymous      bool   // callers without an identity; the segments are empty
	Gateway        string // gateways, which call for who has no sidecar; the last two segments are empty
}

// ParseCallers reads the text forms of a pattern: "namespace/account", "*" for every
// workload, "anonymous" for who has no identity, or a SPIFFE ID, of a workload or a
// gateway, whose segments may be "*".
func ParseCallers(s string) (Callers, error) {
	c := Callers{}
	path, full := strings.CutPrefix(s, "spiffe://")
	switch seg := strings.Split(path, "/"); {
	case s == Any:
		return everybody, nil
	case s == anonymous:
		return Callers{Anonymous: true}, nil
	case full && len(seg) == 7 && seg[1] == "cluster" && seg[3] == "ns" && seg[5] == "sa":
		c = Callers{TrustDomain: seg[0], Cluster: seg[2], Namespace: seg[4], ServiceAccount: seg[6]}
		if c.TrustDomain == "" || c.Cluster == "" {
			return Callers{}, fmt.Errorf("callers %q: a segment is empty: write * for every value", s)
		}
	case full && len(seg) == 5 && seg[1] == "cluster" && seg[3] == "gateway":
		c = Callers{TrustDomain: seg[0], Cluster: seg[2], Gateway: seg[4]}
		if c.TrustDomain == "" || c.Cluster == "" || c.Gateway == "" {
			return Callers{}, fmt.Errorf("callers %q: a segment is empty: write * for every value", s)
		}
		return c, c.Check()
	case !full && len(seg) == 2:
		c = Callers{Namespace: seg[0], ServiceAccount: seg[1]}
	default:
		return Callers{}, fmt.Errorf("callers %q: write namespace/account, such as front/web or front/*, or spiffe://DOMAIN/cluster/CLUSTER/ns/NAMESPACE/sa/ACCOUNT with * for any of them", s)
	}
	if c.Namespace == "" || c.ServiceAccount == "" {
		return Callers{}, fmt.Errorf("callers %q: a segment is empty: write * for every value", s)
	}
	return c, c.Check()
}

// Check returns an error for a segment that no identity can have.
func (c *Callers) Check() error {
	if c.Anonymous && *c != (Callers{Anonymous: true}) {
		return errors.New("anonymous callers have no identity: write them as callers of their own")
	}
	if c.Gateway != "" && (c.Namespace != "" || c.ServiceAccount != "") {
		return errors.New("a gateway has no namespace and no service account: write them as callers of their own")
	}
	if s := c.Gateway; s != "" && s != Any {
		if err := mesh.CheckLabel(s); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	if s := c.TrustDomain; s != "" && s != Any {
		if _, err := identity.ParseID("spiffe://" + s + "/cluster/c/ns/n/sa/a"); err != nil {
			return fmt.Errorf("trust domain %q: write a name such as mesh.example, or *", s)
		}
	}
	if s := c.Cluster; s != "" && s != Any {
		if err := mesh.CheckLabel(s); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	if s := c.Namespace; s != "" && s != Any {
		if err := mesh.CheckLabel(s); err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
	}
	if s := c.ServiceAccount; s != "" && s != Any {
		if len(s) > 253 {
			return fmt.Errorf("service account is longer than 253 characters")
		}
		for label := range strings.SplitSeq(s, ".") {
			if err := mesh.CheckLabel(label); err != nil {
				return fmt.Errorf("service account: %w", err)
			}
		}
	}
	return nil
}

// String returns the shortest form that says the same.
func (c Callers) String() string {
	switch {
	case c == everybody:
		return Any
	case c.Anonymous:
		return anonymous
	case c.TrustDomain != "" && c.Cluster != "" && c.Gateway != "":
		return "spiffe://" + c.TrustDomain + "/cluster/" + c.Cluster + "/gateway/" + c.Gateway
	case c.TrustDomain == "" && c.Cluster == "" && c.Namespace != "" && c.ServiceAccount != "":
		return c.Namespace + "/" + c.ServiceAccount
	case c.TrustDomain != "" && c.Cluster != "" && c.Namespace != "" && c.ServiceAccount != "":
		return "spiffe://" + c.TrustDomain + "/cluster/" + c.Cluster + "/ns/" + c.Namespace + "/sa/" + c.ServiceAccount
	}
	var keys []string
	for _, k := range [...]struct{ key, value string }{
		{"trustDomain", c.TrustDomain}, {"cluster", c.Cluster}, {"namespace", c.Namespace}, {"serviceAccount", c.ServiceAccount}, {"gateway", c.Gateway},
	} {
		if k.value == Any {
			k.value = `"*"`
		}
		if k.value != "" {
			keys = append(keys, k.key+": "+k.value)
		}
	}
	return "{" + strings.Join(keys, ", ") + "}"
}

// pattern is one of which nothing is left out.
type pattern struct {
	Callers
	denies  bool
	vouched bool             // another cluster than home must speak for the caller's namespace
	home    mesh.ClusterName // the service's own
}

// compile fills in what c leaves out, for a rule of a policy of a namespace.
func (c Callers) compile(action Action, trustDomain string, home mesh.ClusterName, namespace string) pattern {
	if c.Anonymous {
		return pattern{Callers: c}
	}
	p := pattern{Callers: c, denies: action == Deny, vouched: action == Allow && c.Cluster == "", home: home}
	if action == Deny {
		trustDomain, namespace = Any, Any
	}
	if c.Gateway != "" { // it is of no namespace, so that no cluster need speak for it
		p.vouched, namespace = false, ""
	}
	for _, s := range [...]struct {
		segment *string
		left    string
	}{{&p.TrustDomain, trustDomain}, {&p.Cluster, Any}, {&p.Namespace, namespace}, {&p.ServiceAccount, Any}} {
		if *s.segment == "" {
			*s.segment = s.left
		}
	}
	return p
}

func (p *pattern) matches(c *Caller) bool {
	if c.Anonymous || p.Anonymous {
		return c.Anonymous && (p.Anonymous || p.denies && p.Callers == everybody)
	}
	if c.IsGateway() || p.Gateway != "" {
		named := c.IsGateway() && p.Gateway != "" && segment(p.Gateway, string(c.Gateway)) &&
			segment(p.Cluster, string(c.Cluster)) && segment(p.TrustDomain, c.TrustDomain)
		return named || c.IsGateway() && p.denies && p.Callers == everybody
	}
	return segment(p.Namespace, c.Namespace) && segment(p.ServiceAccount, c.ServiceAccount) &&
		segment(p.Cluster, string(c.Cluster)) && segment(p.TrustDomain, c.TrustDomain) &&
		!(p.vouched && c.Unvouched && c.Cluster != p.home)
}

func segment(pattern, value string) bool { return pattern == Any || pattern == value }
