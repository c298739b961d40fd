package tunnel

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestAHelloIsReadAsItWasWritten(t *testing.T) {
	want := incarnation{1, 2, 3, 15: 16}
	got, err := readHello(bytes.NewReader(hello(want)))
	if err != nil || got != want {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
	// A later version may append to the payload.
	longer := appendFrame(nil, frameHello, append(append([]byte{helloVersion}, want[:]...), "more"...))
	if got, err := readHello(bytes.NewReader(longer)); err != nil || got != want {
		t.Errorf("longer: got %x, %v; want %x", got, err, want)
	}
}

func TestWhatIsNoHelloIsRefused(t *testing.T) {
	first := hello(incarnation{})
	for name, b := range map[string][]byte{
		"another frame": appendFrame(nil, frameLeaving, nil),
		"no version":    append([]byte{byte(frameHello), 0, byte(helloSize), 0}, make([]byte, 16)...),
		"short":         appendFrame(nil, frameHello, []byte{helloVersion, 1, 2}),
	} {
		if _, err := readHello(bytes.NewReader(b)); !errors.Is(err, errHello) {
			t.Errorf("%s: %v, want %v", name, err, errHello)
		}
	}
	later := append(append([]byte{helloVersion + 1}, first[4:]...), "and more"...)
	if i, err := readHello(bytes.NewReader(appendFrame(nil, frameHello, later))); err != nil || i != (incarnation{}) {
		t.Errorf("of a later version: %v, %v", i, err)
	}
	if _, err := readHello(bytes.NewReader(first[:len(first)-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
	if _, err := readHello(bytes.NewReader([]byte{1, 0xff, 0xff})); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too long: %v, want it refused before it is read", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(hello(incarnation{1}))
	f.Add(appendFrame(appendFrame(nil, frameLeaving, nil), frameDone, nil))
	f.Add([]byte{7, 4, 0})
	f.Add([]byte{7, 4, 1})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		var buf [maxFrame]byte
		var back []byte
		for {
			typ, payload, err := readFrame(r, buf[:])
			if err != nil {
				break
			}
			back = appendFrame(back, typ, payload)
		}
		if !bytes.HasPrefix(b, back) {
			t.Errorf("frames of %x written again are %x", b, back)
		}
		_, _ = readHello(bytes.NewReader(b))
	})
}
