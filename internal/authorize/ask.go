package authorize

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Question is about a call that might be made.
type Question struct {
	Caller       policy.Caller
	To           mesh.Destination // Port 0: the service's first
	Method, Path string           // empty: a connection
	// Seen says that the certificate of the caller's cluster is known, by which
	// Caller.Unvouched is set.
	Seen bool
	// Entrance says that gateways may call endpoints without a sidecar that no policy is about.
	Entrance bool
}

// ParseQuestion reads a question as people write it, to a cluster of a trust domain. The
// caller is namespace/account, cluster/namespace/account, anonymous or a SPIFFE ID, and
// its cluster's certificate is taken to speak for its namespace. The service is
// namespace/name or a mesh name, with :port for one that is not the first.
func ParseQuestion(caller, service, method, path, trustDomain string, cluster mesh.ClusterName) (*Question, error) {
	q := &Question{Method: method, Path: path}
	switch seg := strings.Split(caller, "/"); {
	case caller == "anonymous":
		q.Caller.Anonymous = true
	case strings.HasPrefix(caller, "spiffe://"):
		id, err := identity.ParseID(caller)
		if err != nil {
			return nil, err
		}
		q.Caller.ID = id
	case len(seg) == 2 || len(seg) == 3:
		of := string(cluster)
		if len(seg) == 3 {
			of, seg = seg[0], seg[1:]
		}
		id, err := identity.ParseID("spiffe://" + trustDomain + "/cluster/" + of + "/ns/" + seg[0] + "/sa/" + seg[1])
		if err != nil {
			return nil, fmt.Errorf("caller %q: %w", caller, err)
		}
		q.Caller.ID = id
	default:
		return nil, fmt.Errorf("caller %q: write namespace/account, cluster/namespace/account or a SPIFFE ID", caller)
	}
	var err error
	if q.To, err = parseService(service); err != nil {
		return nil, err
	}
	if (method == "") != (path == "") {
		return nil, fmt.Errorf("write METHOD and PATH, or neither")
	}
	if q.Path, _, _ = strings.Cut(path, "?"); q.Path != "" {
		if normal, err := policy.AppendPath(nil, []byte(q.Path)); err == nil {
			q.Path = string(normal)
		}
	}
	return q, nil
}

// In returns an error when the service is pinned to another cluster.
func (q *Question) In(cluster mesh.ClusterName) error {
	if q.To.Cluster == "" || q.To.Cluster == cluster {
		return nil
	}
	return fmt.Errorf("%s is of cluster %s: ask a gateway there", q.To, q.To.Cluster)
}

func parseService(s string) (mesh.Destination, error) {
	name, port, hasPort := strings.Cut(s, ":")
	if strings.Contains(name, "/") {
		n, err := mesh.ParseServiceName(name)
		if err != nil {
			return mesh.Destination{}, err
		}
		if name = n.Host(); !hasPort {
			return mesh.ParseHost(name)
		}
		s = name + ":" + port
	}
	return mesh.ParseDestinationName(s)
}

// Answer says what would become of the call by a in cluster. Opaque is for ports whose
// requests nobody sees; plain for endpoints for which a gateway decides, which sees none either.
func (q *Question) Answer(a *policy.Authorizer, cluster mesh.ClusterName, opaque, plain bool) *status.Authorization {
	out := &status.Authorization{Caller: q.Caller.String(), Service: q.To, Where: "sidecar"}
	if plain {
		out.Where = "gateway"
	}
	if q.Method != "" && !opaque && !plain {
		out.Method, out.Path = q.Method, q.Path
	}
	d := q.decide(a, &q.Caller, opaque, plain)
	out.Decision, out.Cause, out.Why = word(&d.Verdict), d.Cause.String(), a.Explain(d.Verdict, &q.Caller)
	if d.WouldDiffer() || d.DryRun.Cause != d.Cause {
		out.DryRun = word(&d.DryRun) + ": " + a.Explain(d.DryRun, &q.Caller)
	}
	out.Note = q.note(a, cluster, &d, opaque, plain)
	return out
}

func (q *Question) decide(a *policy.Authorizer, caller *policy.Caller, opaque, plain bool) policy.Decision {
	switch {
	case plain:
		return a.Plain(caller, q.To.Port, q.Entrance)
	case opaque:
		return a.Opaque(caller, q.To.Port)
	case q.Method == "":
		return a.Connection(caller, q.To.Port)
	}
	path := q.Path
	if path == "*" || q.Method == "CONNECT" {
		path = ""
	}
	return a.Request(caller, q.To.Port, &policy.Head{Method: []byte(q.Method), Path: []byte(path)})
}

// note says what is not so for every caller of that name: d does not know the certificate
// of the caller's cluster, and nobody judges who dials plain endpoints in the cluster.
func (q *Question) note(a *policy.Authorizer, cluster mesh.ClusterName, d *policy.Decision, opaque, plain bool) string {
	switch {
	case plain && !d.Allowed && q.Caller.Cluster == cluster:
		return fmt.Sprintf("holds at the gateway's mesh port only: sidecars of cluster %s dial these endpoints directly, where no policy is asked", cluster)
	case q.Caller.Cluster == cluster || q.Caller.Anonymous:
		return ""
	}
	unvouched := q.Caller
	unvouched.Unvouched = !q.Caller.Unvouched
	other := q.decide(a, &unvouched, opaque, plain)
	if word(&other.Verdict) == word(&d.Verdict) {
		return ""
	}
	if q.Seen {
		names := "names namespace %s or none"
		if q.Caller.Unvouched {
			names = "does not name namespace %s"
		}
		return fmt.Sprintf("the certificate of cluster %s, as its gateways show it, "+names, q.Caller.Cluster, q.Caller.Namespace)
	}
	return fmt.Sprintf("only if the certificate of cluster %s names namespace %s or none; else %s: %s",
		q.Caller.Cluster, q.Caller.Namespace, word(&other.Verdict), a.Explain(other.Verdict, &unvouched))
}

func word(v *policy.Verdict) string {
	switch {
	case v.Allowed:
		return "allowed"
	case v.Cause == policy.NeedsRequest:
		return v.Cause.String()
	}
	return "refused"
}
