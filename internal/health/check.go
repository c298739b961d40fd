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
	None Kind = "none" // nothing is asked: always ready
)

// UnmarshalText reads "tcp", "http" or "none".
func (k *Kind) UnmarshalText(b []byte) error {
	switch v := Kind(b); v {
	case TCP, HTTP, None:
		*k = v
		return nil
	}
	return fmt.Errorf("%q is no kind of check: write tcp, http or none", b)
}

// Check says how often and how an address is checked. The zero value stands
// for the defaults, see [Check.WithDefaults].
type Check struct {
	// tcp: a connection is accepted. http: GET answers with 200 to 399. none: always
	// ready. Default: http when path is given, else tcp.
	Kind Kind `yaml:"type"`
	// The path of the HTTP request. Default: /
	Path string `yaml:"path"`
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
		c.Kind = TCP
		if c.Path != "" {
			c.Kind = HTTP
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

func notInPath(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }
