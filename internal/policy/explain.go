package policy

import (
	"fmt"
	"strings"
)

// Explain says in words why v fell as it did and, where it refuses, what to write so
// that the caller may call. It is for people, who get it together with a refusal: it
// tells a caller nothing of the service but the names of its policies.
func (a *Authorizer) Explain(v Verdict, c *Caller) string {
	service := a.set.Service
	switch v.Cause {
	case NotWorkload:
		if c.IsGateway() {
			return fmt.Sprintf("%s calls for a program without a sidecar, which %s, whose endpoints have sidecars, does not serve: give the program a sidecar, too", c.ID, service)
		}
		return fmt.Sprintf("%s is no workload: only workloads call services", c.ID)
	case NotExported:
		return fmt.Sprintf("%s is not exported by cluster %s at this port, and the caller is of cluster %s: write export: true in Service %s there", service, a.cluster, c.Cluster, service)
	case NeedsRequest:
		return "what the request asks for decides: give METHOD and PATH"
	case ByAllow:
		return "allowed by " + v.Rule.String()
	case ByDeny:
		if p := v.Rule.Policy; p.Closes != "" {
			return fmt.Sprintf("every call to a service of namespace %s is refused because of %s: %s: mend or remove it", service.Namespace, p, p.Closes)
		}
		why := ""
		if v.Unjudged {
			why = ", of which not every condition can be judged here"
		}
		return fmt.Sprintf("denied by %s%s: except %s from it to permit this", v.Rule, why, callerName(c))
	case NoAllow:
		return fmt.Sprintf("nothing in %s allows it: add %s there to permit this", a.allowNames(), a.pattern(c))
	}
	if v.Allowed {
		if c.IsGateway() {
			return fmt.Sprintf("allowed by default: it calls for who has no sidecar, and %s has no policy", service)
		}
		return fmt.Sprintf("allowed by default: the caller is of the service's namespace %s", service.Namespace)
	}
	if c.IsGateway() {
		return fmt.Sprintf("no policy of %s allows who has no sidecar: allow %s to permit this", service, a.pattern(c))
	}
	return fmt.Sprintf("by default only namespace %s may call %s: write allow: [%s/*, %s] in Service %s to permit this; if it is a Service of Kubernetes, an AuthorizationPolicy from both",
		service.Namespace, service, service.Namespace, a.pattern(c), service)
}

// allowNames names the policies in force that allow.
func (a *Authorizer) allowNames() string {
	const shown = 3
	var names []string
	more := 0
	for i := range a.set.Policies {
		switch p := &a.set.Policies[i]; {
		case p.Action != Allow || p.DryRun:
		case len(names) == shown:
			more++
		default:
			names = append(names, p.String())
		}
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if len(names) == 0 { // of a dry run
		return "the policies that only try"
	}
	return strings.Join(names, ", ")
}

// pattern returns the narrowest pattern that matches c, in its shortest form.
func (a *Authorizer) pattern(c *Caller) Callers {
	if c.Anonymous {
		return Callers{Anonymous: true}
	}
	if c.IsGateway() {
		return Callers{TrustDomain: c.TrustDomain, Cluster: string(c.Cluster), Gateway: string(c.Gateway)}
	}
	p := Callers{Namespace: c.Namespace, ServiceAccount: c.ServiceAccount}
	if c.TrustDomain != a.trustDomain {
		return Callers{TrustDomain: c.TrustDomain, Cluster: string(c.Cluster), Namespace: c.Namespace, ServiceAccount: c.ServiceAccount}
	}
	if c.Unvouched && c.Cluster != a.cluster {
		p.Cluster = string(c.Cluster)
	}
	return p
}

func callerName(c *Caller) string {
	if c.Anonymous {
		return anonymous
	}
	if c.IsGateway() {
		return c.ID.String()
	}
	return c.Namespace + "/" + c.ServiceAccount
}
