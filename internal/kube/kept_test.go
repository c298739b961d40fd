package kube

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// follow follows the services of c, and returns what ends it and waits.
func (a *api) follow(c *Client) (f *Followed[*corev1.Service], end func()) {
	a.t.Helper()
	f, err := Follow(c, Selection{}, func(s *corev1.Service) { s.ResourceVersion = "" })
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(a.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	end = func() { cancel(); <-done }
	a.t.Cleanup(end)
	return f, end
}

func TestAStartWithoutTheAPIServerKnowsWhatItSaidBefore(t *testing.T) {
	a, _ := newAPI(t)
	keep := filepath.Join(t.TempDir(), "kubernetes.json")
	a.change(false, map[string]string{"b": "1", "a": "1"})
	f, end := a.follow(a.client(keep))
	until(t, f, "a=1 b=1")
	end()

	a.change(true, nil)
	c := a.client(keep)
	f, end = a.follow(c)
	until(t, f, "a=1 b=1")
	eventually(t, func() bool {
		s := c.State()[0]
		return s.Known && s.Objects == 2 && !s.Lost.IsZero() && s.Err != ""
	})
	end() // which must not make it younger than it is
	old, err := os.ReadFile(keep)
	if err != nil {
		t.Fatal(err)
	}

	c = a.client(keep)
	f, end = a.follow(c)
	until(t, f, "a=1 b=1")
	a.change(false, map[string]string{"a": "2"})
	until(t, f, "a=2")
	eventually(t, func() bool { s := c.State()[0]; return s.Lost.IsZero() && s.Err == "" })
	end()
	if now, err := os.ReadFile(keep); err != nil || string(now) == string(old) || c.KeptErr() != nil {
		t.Errorf("what was heard is not written down: %v, %v", err, c.KeptErr())
	}
}

func TestWhatIsOldOrAnotherVersionsIsNotRecalled(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "kubernetes.json")
	a, _ := newAPI(t)
	a.change(false, map[string]string{"a": "1"})
	f, end := a.follow(a.client(keep))
	until(t, f, "a=1")
	end()
	good, err := os.ReadFile(keep)
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		data string
		at   time.Time
		want int
	}{
		"as it was written": {string(good), time.Now(), 1},
		"a day old":         {string(good), time.Now().Add(keptFor + time.Minute), 0},
		"of tomorrow":       {string(good), time.Now().Add(-time.Hour), 0},
		"another version's": {strings.Replace(string(good), `"version":"`, `"version":"another `, 1), time.Now(), 0},
		"cut off":           {string(good[:len(good)/2]), time.Now(), 0},
	} {
		if err := os.WriteFile(keep, []byte(test.data), 0o600); err != nil {
			t.Fatal(err)
		}
		k := keptSets{path: keep}
		if err := k.load(test.at); (err != nil) != (what == "cut off") || len(k.read.Sets) != test.want {
			t.Errorf("%s: %d sets, %v", what, len(k.read.Sets), err)
		}
	}
	if err := os.Truncate(keep, maxKept+1); err != nil {
		t.Fatal(err)
	}
	if err := (&keptSets{path: keep}).load(time.Now()); err == nil {
		t.Error("a file without bound is read")
	}
}
