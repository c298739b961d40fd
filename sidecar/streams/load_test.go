package streams

import (
	"io"
	"testing"
)

func TestAConnectionSaysWhatThoseCarryWhoUseIt(t *testing.T) {
	near, far := sockets(t)
	client, _ := pair(t, near, far, echo)
	if l := client.Load(); l != (Load{}) {
		t.Errorf("without a stream it is %+v", l)
	}
	first := open(t, client, post, false)
	since := client.Load().Since
	second := open(t, client, post, false)
	if _, err := second.WriteLast(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.ReadHead(nil); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{second}); n != 1000 || err != nil {
		t.Fatalf("%d bytes came back, %v", n, err)
	}
	if l := client.Load(); l.Carried != 2000 || since.IsZero() || !l.Since.Equal(since) {
		t.Errorf("with two it is %+v, want 2,000 bytes since %v", l, since)
	}
	second.Release()
	if l := client.Load(); l.Carried != 0 || !l.Since.Equal(since) {
		t.Errorf("with the first alone it is %+v", l)
	}
	first.Release()
	again := open(t, client, post, false) // on what the second was
	if l := client.Load(); l.Carried != 0 || l.Since.Before(since) {
		t.Errorf("with another one it is %+v", l)
	}
	again.Release()
}
