package upstream

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAConnectionThatIsNearlyAsOldAsThoseThatTheProgramClosedTakesNoRequestThatCannotBeRepeated(t *testing.T) {
	var r reuseAge
	r.openAt(time.Millisecond)
	if r.allows(0) {
		t.Error("a connection is used before the program has shown that it keeps them")
	}
	r.openAt(time.Second)
	if !r.allows(time.Hour) {
		t.Error("something is forbidden before a close was seen")
	}
	r.closedAt(3 * time.Second)
	if r.allows(2*time.Second) || !r.allows(time.Second) {
		t.Error("a close seen at 3 s, which may have come at 2 s, forbids what is older than 1.5 s and nothing else")
	}
	r.closedAt(time.Millisecond) // a restart
	if r.allows(time.Second) {
		t.Error("a close after 1 ms taught nothing")
	}
	r.openAt(2900 * time.Millisecond)
	if !r.allows(time.Second) || r.allows(2*time.Second) {
		t.Error("what is open after 2.9 s disproves a close after 1 ms, and not that there is none at all")
	}
}

func TestAConnectionIsKeptNoLongerThanItsProgramSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Static(Config{Dial: pipes(func(_ string, c net.Conn) { _, _ = io.Copy(io.Discard, c) })}, "program:1", mesh.HTTP)
		defer s.Close()
		var a Attempts
		a.Begin(s, DefaultRetries(), time.Now())
		l, err := a.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		l.KeepFor(2 * time.Second)
		l.Done(Answered, 0)
		l.Return()
		h := l.host
		if h.pool.expired(l.Conn, s.shared.now().add(time.Second)) {
			t.Error("a connection that the program keeps for 2 s is too old after 1 s")
		}
		if !h.pool.expired(l.Conn, s.shared.now().add(1900*time.Millisecond)) {
			t.Error("a connection that the program keeps for 2 s is used after 1.9 s")
		}
	})
}
