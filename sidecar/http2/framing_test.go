package http2

import "testing"

func TestFramingKnowsWhatMayBeNext(t *testing.T) {
	var f framing
	for i := range len(clientPreface) {
		if !f.expectsPreface() {
			t.Fatal("the preface is over early")
		}
		if n, err := f.takePreface([]byte(clientPreface[i:])[:1]); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := new(framing).takePreface([]byte("PRI * HTTP/1")); n != 0 || err != ErrPreface {
		t.Error(n, err)
	}
	settings, data, more := frameHeader{typ: frameSettings}, frameHeader{typ: frameData}, frameHeader{typ: frameContinuation}
	for _, step := range []struct {
		what  string
		h     frameHeader
		block bool
		want  error
	}{
		{"a first frame that is none of SETTINGS", data, false, ErrFirstFrame},
		{"a first frame that acknowledges SETTINGS", frameHeader{typ: frameSettings, flags: flagAck}, false, ErrFirstFrame},
		{"SETTINGS", settings, false, nil},
		{"another frame", data, false, nil},
		{"one that is too large", frameHeader{typ: frameData, length: MaxFrame + 1}, false, ErrFrameTooLarge},
		{"CONTINUATION of nothing", more, false, ErrContinuation},
		{"CONTINUATION of a block", more, true, nil},
		{"another frame within a block", settings, true, ErrContinuation},
	} {
		f.block = step.block
		if err := f.check(step.h); err != step.want {
			t.Errorf("%s: %v, want %v", step.what, err, step.want)
		}
	}
}

func TestADATAFrameInPiecesIsWhatItIsWhole(t *testing.T) {
	in := []byte(frame(frameData, flagPadded|flagEndStream, 1, "\x03payload\x00\x00\x00"))
	for _, size := range []int{1, 2, 5, len(in)} {
		var d dataFrame
		if n, err := d.begin(parseFrameHeader(in), in[:frameHeaderSize]); n != 0 || err != nil {
			t.Fatal("it begins without the length of its padding", n, err)
		}
		n, err := d.begin(parseFrameHeader(in), in)
		if err != nil {
			t.Fatal(err)
		}
		got, ended := "", false
		for rest := in[n:]; len(rest) > 0; {
			if ended || !d.active {
				t.Fatalf("pieces of %d: it ends before its end", size)
			}
			payload, n, end := d.read(rest[:min(size, len(rest))])
			got, ended, rest = got+string(payload), end, rest[n:]
		}
		if got != "payload" || !ended || d.active {
			t.Errorf("pieces of %d: %q, ended %v, active %v", size, got, ended, d.active)
		}
	}
}
