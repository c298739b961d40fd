package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// RetryAnnotation stands on a route, and says for its rules what a rule of an HTTPRoute says as
// retry: GRPCRoutes have no such field, and API servers of the standard channel drop it.
const RetryAnnotation = AnnotationPrefix + "retry"

// AnnotationPrefix begins the annotations of routes that are ours.
const AnnotationPrefix = "isthmus.io/"

// retryResource is the retry of a rule (GEP-1731).
type retryResource struct {
	// Answers after which it is sent again: statuses 400 to 599.
	Codes []int `yaml:"codes"`
	// How often it is, at most: 1 to 5. Default: 1.
	Attempts *int `yaml:"attempts"`
	// How long is waited before, at least: up to 10s. Default: no time, if another instance is there.
	Backoff string `yaml:"backoff"`
}

// retryText is what the annotation has.
type retryText struct {
	Codes    []string `yaml:"codes"` // of HTTP by number, of gRPC by name
	Attempts *int     `yaml:"attempts"`
	Backoff  string   `yaml:"backoff"`
}

// retryOf reads the retry of a rule; nil: it has none.
func (r *reader) retryOf(key string, from *retryResource) *mesh.Retry {
	if !r.doc.Has(key) {
		return nil
	}
	return r.retry(key, &mesh.Retry{Codes: from.Codes}, from.Attempts, from.Backoff)
}

// annotatedRetry reads the annotation of a route, and refuses others of ours; nil: it has none.
func (r *reader) annotatedRetry(annotations map[string]string) *mesh.Retry {
	for name := range annotations {
		if strings.HasPrefix(name, AnnotationPrefix) && name != RetryAnnotation {
			r.fault("metadata.annotations."+name, "is not known: a route can have %s", RetryAnnotation)
		}
	}
	text, ok := annotations[RetryAnnotation]
	if !ok {
		return nil
	}
	const key, form = "metadata.annotations." + RetryAnnotation, "'{codes: [UNAVAILABLE, 503], attempts: 2}'"
	docs, err := strictyaml.Parse("", []byte(text))
	if err != nil || len(docs) != 1 {
		r.fault(key, "%q is not understood: write %s", text[:min(len(text), 80)], form)
		return nil
	}
	of := reader{doc: docs[0]}
	var t retryText
	out := &mesh.Retry{}
	if of.decode(&t) {
		for i, code := range t.Codes {
			if n, err := strconv.Atoi(code); err == nil {
				out.Codes = append(out.Codes, n)
			} else if traffic.IsRetriedStatus(code) {
				out.Statuses = append(out.Statuses, code)
			} else {
				of.fault(fmt.Sprintf("codes[%d]", i), "%q is nothing upon which a request is sent again: write a status of HTTP, 400 to 599, or of gRPC: %s", code, traffic.RetriedStatuses)
			}
		}
		of.retry("", out, t.Attempts, t.Backoff)
	}
	for _, f := range of.faults {
		r.fault(key, "%s: %s", f.Key, f.Problem)
	}
	return out
}

// retry completes what is written at key, and checks it.
func (r *reader) retry(key string, out *mesh.Retry, attempts *int, backoff string) *mesh.Retry {
	at := func(part string) string { return strings.TrimPrefix(key+"."+part, ".") }
	out.Attempts = traffic.DefaultRetries
	if attempts != nil {
		out.Attempts = *attempts
	}
	out.Backoff = r.duration(at("backoff"), backoff)
	slices.Sort(out.Codes)
	traffic.CheckRetry(out, func(part, format string, args ...any) { r.fault(at(part), format, args...) })
	return out
}
