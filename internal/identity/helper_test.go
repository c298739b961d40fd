package identity_test

import (
	"strings"
	"testing"
)

// wantError fails the test unless err contains want; an empty want means nil.
func wantError(t *testing.T, who string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", who, err)
	case want != "" && err == nil:
		t.Errorf("%s: accepted; want an error with %q", who, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s: error %q\nwant one with %q", who, err, want)
	}
}
