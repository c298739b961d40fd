package traffic

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Check returns what is wrong with a rule that may come from anywhere.
func Check(r *mesh.Rule) error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	CheckMatch(&r.Match, fault)
	CheckAction(&r.Action, &r.Match, fault)
	if r.Action.Retry != nil {
		CheckRetry(r.Action.Retry, func(key, format string, args ...any) { fault("retry."+key, format, args...) })
	}
	if len(r.Action.Backends) > MaxBackends || len(r.Action.Mirrors) > MaxMirrors {
		fault("backends", "%d, and %d mirrors: at most %d and %d", len(r.Action.Backends), len(r.Action.Mirrors), MaxBackends, MaxMirrors)
	}
	for i := range r.Action.Backends {
		b := &r.Action.Backends[i]
		if b.Weight > MaxWeight {
			fault("weight", "%d is more than %d", b.Weight, MaxWeight)
		}
		checkFields("request", &b.Request, fault)
		checkFields("response", &b.Response, fault)
	}
	return errors.Join(faults...)
}

// CheckMatch calls fault with every thing in m that cannot be meant, and its key as a
// [mesh.Match] has it.
func CheckMatch(m *mesh.Match, fault func(key, format string, args ...any)) {
	if m.Method != "" && !isToken(m.Method) {
		fault("method", "%q is no method", m.Method)
	}
	switch p := &m.Path; p.Kind {
	case "":
	case mesh.Exact, mesh.Prefix:
		if err := CheckPath(p.Value); err != nil {
			fault("path", "%v", err)
		}
	case mesh.Regex:
		if err := checkRegex(p.Value); err != nil {
			fault("path", "%v", err)
		}
	default:
		fault("path", "type %q is not known: renew this process", p.Kind)
	}
	checkValues("headers", m.Headers, fault)
	checkValues("queryParams", m.Query, fault)
}

func checkValues(key string, values []mesh.ValueMatch, fault func(key, format string, args ...any)) {
	if len(values) > MaxMatches {
		fault(key, "has %d conditions: at most %d are read", len(values), MaxMatches)
		return
	}
	for i := range values {
		v, at := &values[i], fmt.Sprintf("%s[%d]", key, i)
		switch v.Kind {
		case mesh.Exact:
		case mesh.Regex:
			if err := checkRegex(v.Value); err != nil {
				fault(at+".value", "%v", err)
			}
		default:
			fault(at+".type", "%q is not known: renew this process", v.Kind)
		}
		switch {
		case v.Name == "" || len(v.Name) > MaxText:
			fault(at+".name", "must not be empty, nor longer than %d bytes", MaxText)
		case key == "headers" && (!isToken(v.Name) || strings.ToLower(v.Name) != v.Name):
			fault(at+".name", "%q is no name of a header field", v.Name)
		}
		if len(v.Value) > MaxText {
			fault(at+".value", "is longer than %d bytes", MaxText)
		}
	}
}

// CheckAction is [CheckMatch] for what becomes of requests that m matches; nil: any of several.
func CheckAction(a *mesh.Action, m *mesh.Match, fault func(key, format string, args ...any)) {
	checkFields("request", &a.Request, fault)
	checkFields("response", &a.Response, fault)
	if a.Timeout < 0 || a.BackendTimeout < 0 {
		fault("timeouts", "must not be negative")
	}
	if a.Rewrite.Host != "" && !isHost(a.Rewrite.Host) {
		fault("rewrite.host", "%q is no host", a.Rewrite.Host)
	}
	checkRewrite("rewrite.path", &a.Rewrite.Path, m, fault)
	if r := a.Redirect; r != nil {
		checkRewrite("redirect.path", &r.Path, m, fault)
		if r.Host != "" && !isHost(r.Host) {
			fault("redirect.host", "%q is no host", r.Host)
		}
		if r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https" {
			fault("redirect.scheme", "%q: write http or https", r.Scheme)
		}
		if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Status) {
			fault("redirect.status", "%d: write 301, 302, 303, 307 or 308", r.Status)
		}
	}
	for i, x := range a.Mirrors {
		if x.PerMillion > million {
			fault(fmt.Sprintf("mirrors[%d]", i), "%d in a million is no part", x.PerMillion)
		}
	}
}

func checkRewrite(key string, w *mesh.PathRewrite, m *mesh.Match, fault func(key, format string, args ...any)) {
	switch w.Kind {
	case "":
		return
	case mesh.ReplaceFull:
	case mesh.ReplacePrefix:
		if m != nil && m.Path.Kind != mesh.Prefix {
			fault(key, "a prefix can only be replaced where a prefix of the path is matched")
		}
		if w.Value == "" {
			return // as "/"
		}
	default:
		fault(key, "type %q is not known: renew this process", w.Kind)
	}
	if err := CheckPath(w.Value); err != nil {
		fault(key, "%v", err)
	}
}

// reserved are fields that say how a message is framed, where it goes and who sends it: no
// rule may touch them.
var reserved = []string{
	"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-connection",
	"http2-settings", "expect", "grpc-timeout", "proxy-status", "x-forwarded-client-cert", "x-request-id",
}

func checkFields(key string, f *mesh.Fields, fault func(key, format string, args ...any)) {
	if n := max(len(f.Set), len(f.Add), len(f.Remove)); n > 2*MaxFields { // those of a backend are joined to the rule's
		fault(key, "changes %d fields: at most %d are read", n, MaxFields)
		return
	}
	check := func(name, value string) {
		switch {
		case !isToken(name) || strings.ToLower(name) != name || len(name) > MaxText:
			fault(key, "%q is no name of a header field", name)
		case slices.Contains(reserved, name) || strings.HasPrefix(name, "x-isthmus-"):
			fault(key, "%s is the mesh's own: remove it", name)
		case !isValue(value):
			fault(key, "%s: %q can be no header field's value", name, value)
		}
	}
	for _, x := range f.Set {
		check(x.Name, x.Value)
	}
	for _, x := range f.Add {
		check(x.Name, x.Value)
	}
	for _, name := range f.Remove {
		check(name, "")
	}
}

// CheckPath accepts what can stand as a path in a request.
func CheckPath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("%q does not begin with a slash", s)
	case len(s) > MaxText:
		return fmt.Errorf("is longer than %d bytes", MaxText)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?\\^`{|}", c) >= 0 {
			return fmt.Errorf("%q holds a byte that a path cannot: escape it", s)
		}
	}
	return nil
}

// checkRegex accepts what can be decided in bounded time.
func checkRegex(s string) error {
	if len(s) > MaxRegex {
		return fmt.Errorf("the expression is longer than %d bytes", MaxRegex)
	}
	parsed, err := syntax.Parse(whole(s), syntax.Perl)
	if err != nil {
		return fmt.Errorf("%q is no regular expression of RE2: %w", s, err)
	}
	if nodes(parsed) > maxRegexNodes {
		return fmt.Errorf("%q is too large: with its repetitions written out it has more than %d parts", s, maxRegexNodes)
	}
	if _, err := regexp.Compile(whole(s)); err != nil {
		return fmt.Errorf("%q is no regular expression of RE2: %w", s, err)
	}
	return nil
}

// nodes returns how large an expression is with its repetitions written out.
func nodes(r *syntax.Regexp) int {
	n := 1 + len(r.Rune)/2
	for _, sub := range r.Sub {
		n += nodes(sub)
	}
	if r.Op == syntax.OpRepeat {
		n *= max(r.Max, r.Min+1, 1)
	}
	return min(n, 1<<20)
}

// isToken accepts a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c) })
}

// isValue accepts what a header field can hold.
func isValue(s string) bool {
	return len(s) <= MaxText && strings.Trim(s, " \t") == s && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// isHost accepts a host name, with a port or without.
func isHost(s string) bool {
	return len(s) <= 260 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-:", c)
	})
}
