package proxystatus

import (
	"strings"
	"testing"
)

func TestDetailsAreQuotedAndCannotLeaveTheField(t *testing.T) {
	got := Member("isthmus-west-1", "destination_unavailable", "a \"b\" \\ c\r\nX: y \xff")
	want := `isthmus-west-1; error=destination_unavailable; details="a \"b\" \\ c??X: y ?"`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDetailsAreBounded(t *testing.T) {
	if n := len(Member("p", "e", strings.Repeat("x", 1<<20))); n > maxDetails+50 {
		t.Errorf("%d bytes", n)
	}
}
