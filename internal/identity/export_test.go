package identity

import "net/url"

// ScopeOf is scopeOf for tests: the trust domain, the cluster and the namespaces.
func ScopeOf(uris ...string) ([]string, error) {
	var parsed []*url.URL
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, u)
	}
	a, err := scopeOf(parsed)
	if err != nil {
		return nil, err
	}
	return append([]string{a.trustDomain, string(a.cluster)}, a.namespaces...), nil
}
