package traffic

import "time"

// The bounds of routes. Those of the Gateway API are lower, where it has some.
const (
	// MaxRules bounds the rules of a destination: a decision looks at every one.
	MaxRules = 1024
	// MaxMatches bounds the conditions of one match, of either kind.
	MaxMatches = 16
	// MaxBackends bounds the backends of a rule, MaxMirrors its mirrors.
	MaxBackends = 16
	MaxMirrors  = 4
	// MaxFields bounds what a rule sets, adds or removes, of each kind.
	MaxFields = 16
	// MaxText bounds a value in bytes, and MaxRegex an expression.
	MaxText  = 4096
	MaxRegex = 1024
	// MaxRetries bounds how often a request is sent again, and DefaultRetries is how often
	// where nothing is said. MaxBackoff bounds the wait before that, for which the request
	// and its body are held.
	MaxRetries     = 5
	DefaultRetries = 1
	MaxBackoff     = 10 * time.Second
	// MaxCodes bounds the statuses of either kind that are retried.
	MaxCodes = 32
	// MaxWeight is the greatest weight of a backend, as the Gateway API has it.
	MaxWeight = 1_000_000

	million = 1_000_000
)

const (
	// maxRegexNodes bounds an expression with its repetitions written out. With maxRegexInput,
	// in bytes, one decision takes at most some 10 ms: RE2's time is their product.
	maxRegexNodes = 1000
	maxRegexInput = 8 << 10
)
