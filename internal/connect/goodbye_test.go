package connect

import (
	"bytes"
	"testing"
)

// record is a TLS record of application data.
func record(payload string) []byte {
	return append([]byte{23, 3, 3, byte(len(payload) >> 8), byte(len(payload))}, payload...)
}

func TestAGoodbyeIsTakenOutHoweverTheBytesArrive(t *testing.T) {
	want := append(record("one"), append(record(""), record("two \xf1\x03\x03\x00\x00 is no goodbye")...)...)
	sent := AppendGoodbye(nil)
	sent = append(sent, record("one")...)
	sent = AppendGoodbye(AppendGoodbye(append(sent, record("")...)))
	sent = append(sent, record("two \xf1\x03\x03\x00\x00 is no goodbye")...)
	for size := 1; size <= len(sent); size++ {
		var r Records
		var got []byte
		heard := false
		for rest := bytes.Clone(sent); len(rest) > 0; {
			part := rest[:min(size, len(rest))]
			rest = rest[len(part):]
			n, goodbye := r.Strip(part)
			got = append(got, part[:n]...)
			heard = heard || goodbye
		}
		if !bytes.Equal(got, want) || !heard || !r.Between() {
			t.Fatalf("in pieces of %d: got %q, goodbye %v, between records %v", size, got, heard, r.Between())
		}
	}
}

func TestOnlyBetweenRecordsIsThereRoomForAGoodbye(t *testing.T) {
	var r Records
	all := append(record("abc"), record("d")...)
	for i := range all {
		r.Pass(all[i : i+1])
		if want := i+1 == 8 || i+1 == len(all); r.Between() != want {
			t.Errorf("after %d bytes: between records %v, want %v", i+1, r.Between(), want)
		}
	}
}

func FuzzStrippingLosesNothing(f *testing.F) {
	f.Add(AppendGoodbye(record("x")), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = max(0, min(cut, len(b)))
		var whole, parts Records
		x, y := bytes.Clone(b), bytes.Clone(b)
		n, _ := whole.Strip(x)
		k, _ := parts.Strip(y[:cut])
		l, _ := parts.Strip(y[cut:])
		if got := append(bytes.Clone(y[:k]), y[cut:cut+l]...); !bytes.Equal(got, x[:n]) || whole != parts {
			t.Errorf("%q in two parts at %d gives %q, at once %q", b, cut, got, x[:n])
		}
		if !bytes.Contains(b, []byte{recordGoodbye}) && !bytes.Equal(x[:n], b) {
			t.Errorf("%q became %q", b, x[:n])
		}
	})
}
