package forward

import (
	"bytes"
	"strings"
	"testing"
)

func TestOnlyAWholeEncryptedRecordBehindTheAnswerIsAProof(t *testing.T) {
	hello := "\x16\x03\x01\x00\x04abcd"
	for _, c := range []struct {
		name, before, behind string
		proof                bool
	}{
		{"a client's Finished", hello, "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x03xyz", true},
		{"nothing", hello, "", false},
		{"a byte", hello, "\x17", false},
		{"a record that does not end", hello, "\x17\x03\x03\x00\x03xy", false},
		{"a change of ciphers, which endpoints pass over", hello, "\x14\x03\x03\x00\x01\x01", false},
		{"a second ClientHello", hello, hello, false},
		{"an encrypted record before the answer", hello + "\x17\x03\x03\x00\x01x", "", false},
		{"a whole record in one that began before the answer", hello + "\x17\x03\x03\x40\x00", "\x17\x03\x03\x00\x01x", false},
		{"what is no record", hello, "proof", true}, // the endpoint ends it
		{"a record that is too long", hello, "\x17\x03\x03\xff\xff", true},
	} {
		for _, step := range []int{1, 2, 100} {
			var r records
			got := false
			feed := func(s string, answered bool) {
				for b := []byte(s); len(b) > 0; b = b[min(step, len(b)):] {
					got = r.add(b[:min(step, len(b))], answered) || got
				}
			}
			feed(c.before, false)
			feed(c.behind, true)
			if got != c.proof {
				t.Errorf("%s, by %d: %v, want %v", c.name, step, got, c.proof)
			}
		}
	}
}

func TestRecordsAreFollowedWhateverComes(t *testing.T) {
	var r records
	big := bytes.NewBufferString(strings.Repeat("\x16\x03\x03\x00\x00", 1000))
	if r.add(big.Bytes(), true) || r.have != 0 {
		t.Errorf("empty records: %+v", r)
	}
}
