package xds

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestWhatAnIdentityAskedForIsRememberedForAWeek(t *testing.T) {
	now := time.Now()
	m := newScopeMemory("", func() time.Time { return now }, nil)
	orders, cart := service("orders").String(), service("cart").String()
	if !m.remember("web", []string{orders, "*", "not a destination"}) {
		t.Error("a new name is no growth")
	}
	now = now.Add(rememberFor - time.Hour)
	if !m.remember("web", []string{cart}) || m.remember("web", []string{cart}) {
		t.Error("growth is a name that was not known, and only that")
	}
	if got := m.namesOf("web"); len(got) != 2 {
		t.Errorf("remembers %v", got)
	}
	now = now.Add(2 * time.Hour)
	if got, want := m.namesOf("web"), []string{cart}; !slices.Equal(got, want) {
		t.Errorf("remembers %v, want %v", got, want)
	}
	if got := m.namesOf("other"); len(got) != 0 {
		t.Errorf("another identity is told %v", got)
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	now := time.Now()
	m := newScopeMemory("", func() time.Time { now = now.Add(time.Second); return now }, nil)
	for i := range maxRemembered + 50 {
		m.remember("web", []string{service(fmt.Sprint("s", i)).String()})
	}
	names := m.namesOf("web")
	if len(names) != maxRemembered || slices.Contains(names, service("s0").String()) {
		t.Errorf("%d names, the oldest kept: %t", len(names), slices.Contains(names, service("s0").String()))
	}
	for i := range maxIdentities + 50 {
		m.remember(fmt.Sprint("id", i), []string{service("orders").String()})
	}
	if len(m.asked) > maxIdentities {
		t.Errorf("%d identities", len(m.asked))
	}
	if len(m.namesOf(fmt.Sprint("id", maxIdentities+49))) != 1 {
		t.Error("the latest identity is forgotten")
	}
}

func TestABrokenMemoryFileIsAnErrorAndAnEmptyMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "asked.json")
	for _, content := range []string{"{", `{"version":2}`, "[]"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		m := newScopeMemory(path, time.Now, nil)
		if err := m.load(); err == nil {
			t.Errorf("%s: no error", content)
		}
		m.remember("web", []string{service("orders").String()})
		if err := m.saver.Save(); err != nil {
			t.Fatal(err)
		}
		fresh := newScopeMemory(path, time.Now, nil)
		if err := fresh.load(); err != nil || len(fresh.namesOf("web")) != 1 {
			t.Errorf("after %s: %v", content, err)
		}
	}
}
