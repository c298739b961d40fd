package health

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Kind says how an address is asked.
type Kind string

// The kinds of checks.
const (
	TCP  Kind = "tcp"  // a connection is accepted
	HTTP Kind = "http" // GET Path answers with a status from 200 to 399
	GRPC Kind = "grpc" // grpc.health.v1 says SERVING
	None Kind = "none" // nothing is asked: always ready
)

// UnmarshalText reads the name of a kind.
func (k *Kind) UnmarshalText(b []byte) error {
	switch v := Kind(b); v {
	case TCP, HTTP, GRPC, None:
		*k = v
		return nil
	}
	return fmt.Errorf("%q is no kind of check: write tcp, http, grpc or none", b)
}

// Check says how often and how an address is checked. The zero value stands
// for the defaults, see [Check.WithDefaults].
type Check struct {
	// tcp: a connection is accepted. http: GET answers with 200 to 399. grpc: the
	// program's grpc.health.v1.Health, without TLS, answers SERVING. none: always ready.
	// Default: http when path is given, grpc when service is, else tcp.
	Kind Kind `yaml:"type"`
	// The path of the HTTP request. Default: /
	Path string `yaml:"path"`
	// The service that grpc.health.v1 is asked for. Default: the whole program.
	Service string `yaml:"service"`
	// From one check to the next, ±10 %. Default: 1s.
	Interval time.Duration `yaml:"interval"`
	// For one check, connecting included. Default: 1s.
	Timeout time.Duration `yaml:"timeout"`
	// Successes in a row that make an unready address ready. Default: 1.
	HealthyAfter int `yaml:"healthyAfter"`
	// Failures in a row that make a ready address unready. Default: 2.
	UnhealthyAfter int `yaml:"unhealthyAfter"`
}

// WithDefaults returns c with every value that is not set filled in.
func (c Check) WithDefaults() Check {
	if c.Kind == "" {
		switch {
		case c.Path != "":
			c.Kind = HTTP
		case c.Service != "":
			c.Kind = GRPC
		default:
			c.Kind = TCP
		}
	}
	if c.Kind == HTTP {
		c.Path = cmp.Or(c.Path, "/")
	}
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.HealthyAfter = cmp.Or(c.HealthyAfter, DefaultHealthyAfter)
	c.UnhealthyAfter = cmp.Or(c.UnhealthyAfter, DefaultUnhealthyAfter)
	return c
}

// Validate calls fault with the key and the problem of everything that is
// wrong with c.
func (c Check) Validate(fault func(key, problem string)) {
	if c.Path != "" {
		if c.Kind != "" && c.Kind != HTTP {
			fault("path", fmt.Sprintf("a %s check asks for no path: remove it, or write type: http", c.Kind))
		} else if !strings.HasPrefix(c.Path, "/") || strings.ContainsFunc(c.Path, notInPath) {
			fault("path", fmt.Sprintf("%q is no path: write one that begins with a slash, such as /healthz", c.Path))
		}
	}
	switch {
	case c.Service == "":
	case c.Kind != "" && c.Kind != GRPC:
		fault("service", fmt.Sprintf("a %s check asks for no service: remove it, or write type: grpc", c.Kind))
	case c.Kind == "" && c.Path != "":
		fault("service", "stands beside path: an http check asks for path, a grpc check for service: remove one")
	case len(c.Service) > maxService || strings.ContainsFunc(c.Service, notInService):
		fault("service", fmt.Sprintf("%q is no gRPC service: write its full name, such as shop.v1.Orders", c.Service))
	}
	if c.Interval != 0 && (c.Interval < MinInterval || c.Interval > MaxInterval) {
		fault("interval", fmt.Sprintf("%s is out of range: write %s to %s", c.Interval, MinInterval, MaxInterval))
	}
	if c.Timeout != 0 && (c.Timeout < MinTimeout || c.Timeout > MaxTimeout) {
		fault("timeout", fmt.Sprintf("%s is out of range: write %s to %s", c.Timeout, MinTimeout, MaxTimeout))
	}
	threshold := func(key string, n int) {
		if n < 0 || n > MaxThreshold {
			fault(key, fmt.Sprintf("%d is out of range: write 1 to %d", n, MaxThreshold))
		}
	}
	threshold("healthyAfter", c.HealthyAfter)
	threshold("unhealthyAfter", c.UnhealthyAfter)
}

// notInService: gRPC takes any text; names are of identifiers and dots, and some
// programs report under names with hyphens or slashes.
func notInService(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }

func notInPath(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }
