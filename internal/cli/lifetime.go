package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// lifetime is a flag: a duration that may be in days (30d) or years (10y).
type lifetime time.Duration

// Set reads the flag.
func (l *lifetime) Set(s string) error {
	const dayLong = 24 * time.Hour
	for suffix, unit := range map[string]time.Duration{"d": dayLong, "y": 365 * dayLong} {
		digits, ok := strings.CutSuffix(s, suffix)
		if n, err := strconv.ParseUint(digits, 10, 16); ok && err == nil && n > 0 {
			if time.Duration(n) > maxLifetime/unit {
				return fmt.Errorf("%s is longer than 100y", s)
			}
			*l = lifetime(time.Duration(n) * unit)
			return nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxLifetime {
		return fmt.Errorf("write a number of days (30d), years (10y) or hours (12h)")
	}
	*l = lifetime(d)
	return nil
}

// maxLifetime keeps dates far from the end of X.509's and Go's.
const maxLifetime = 100 * 365 * 24 * time.Hour

// String shows the flag's default.
func (l *lifetime) String() string {
	d := time.Duration(*l)
	switch {
	case d%(365*24*time.Hour) == 0 && d > 0:
		return strconv.Itoa(int(d/(365*24*time.Hour))) + "y"
	case d%(24*time.Hour) == 0 && d > 0:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return d.String()
}

// Type names the flag's value in the help.
func (*lifetime) Type() string { return "duration" }
