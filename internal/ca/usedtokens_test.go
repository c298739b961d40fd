package ca

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func TestATokenIsUsedOnceAlsoAcrossARestart(t *testing.T) {
	c := newTestCluster(t)
	cfg := c.config("ca-1", filepath.Join(t.TempDir(), "state"))
	ca := c.start(cfg)
	token := c.token(orders)
	own := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	thief := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	if _, err := ca.redeem(token, own); err != nil {
		t.Fatal(err)
	}
	_, err := ca.redeem(token, thief)
	wantCode(t, "another key", err, codes.Unauthenticated, "it was used before, by another key")
	if _, err := ca.redeem(token, own); err != nil {
		t.Errorf("the same key, whose answer was lost: %v", err)
	}
	ca.end()
	ca = c.start(cfg)
	_, err = ca.redeem(token, thief)
	wantCode(t, "another key after a restart", err, codes.Unauthenticated, "it was used before")
	if _, err := ca.redeem(token, own); err != nil {
		t.Errorf("the same key after a restart: %v", err)
	}
}

func TestATokenStaysUsedWhenNothingCouldBeIssued(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	token := c.token(orders)
	own := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	broken := *ca.cfg
	broken.TTL = -time.Hour // nothing can be issued
	ca.inForce.Store(&broken)
	if _, _, refused := ca.answer(t.Context(), caller{token: token}, own, time.Now()); refused == nil || refused.code != codes.Unavailable {
		t.Fatalf("not the case that is meant: %v", refused)
	}
	ca.inForce.Store(ca.cfg)
	_, err := ca.redeem(token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))})
	wantCode(t, "another key", err, codes.Unauthenticated, "it was used before")
	if _, err := ca.redeem(token, own); err != nil {
		t.Errorf("the key that was first: %v", err)
	}
}

func TestABadRequestUsesNoTokenUp(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	token := c.token(orders)
	for _, r := range []*securityv1.IstioCertificateRequest{
		{Csr: "nonsense"}, {Csr: csrOf(t, newKey(t), west1.String())}, {Csr: csrOf(t, newKey(t)), ValidityDuration: -1},
	} {
		if _, err := ca.redeem(token, r); err == nil {
			t.Errorf("%v is served", r)
		}
	}
	if _, err := ca.redeem(token, &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}); err != nil {
		t.Error(err)
	}
}

func TestOfTwoCAsOneTakesATokenAndBothRenew(t *testing.T) {
	c := newTestCluster(t)
	one, two := c.ca("ca-1"), c.ca("ca-2")
	c2 := *c
	c2.dir = t.TempDir() // the third has an intermediate of its own
	own := c2.cluster(c.west)
	three := c2.ca("ca-3")
	token, key := c.token(orders), newKey(t)
	r := &securityv1.IstioCertificateRequest{Csr: csrOf(t, key)}
	for _, ca := range []*testCA{two, three} {
		_, err := ca.redeem(token, r)
		wantCode(t, ca.cfg.Name, err, codes.FailedPrecondition, `it is for the CA "ca-1", this one is `+ca.cfg.Name)
	}
	chain, err := one.redeem(token, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, ca := range []*testCA{two, three, one} {
		s := source(t, chain, key)
		key = newKey(t)
		if chain, err = ca.ask(s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"), "", &securityv1.IstioCertificateRequest{Csr: csrOf(t, key)}); err != nil {
			t.Fatalf("%s: %v", ca.cfg.Name, err)
		}
	}
	// Somebody writes another CA's name into a token: its signature is another's, too.
	text, _, err := own.NewToken(orders, "ca-1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, err = one.redeem(text, r)
	wantCode(t, "a token of another intermediate", err, codes.Unauthenticated, "not made with the key of this CA")
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func tokenNo(n int, now time.Time) *identity.Token {
	return &identity.Token{Serial: fmt.Sprintf("%032x", n), Issued: now, Expires: now.Add(15 * time.Minute)}
}

func TestWhatTheFileOfUsedTokensHoldsAfterACrash(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	path := filepath.Join(t.TempDir(), "used-tokens")
	u, err := openUsedTokens(path, now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if err := u.claim(tokenNo(n, now), []byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	u.close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		content   string
		refused   []int // of tokens 0 to 2 with key b, which is the first to show 2
		whyThird  string
		remembers int
	}{
		{"whole", string(good), []int{0, 1}, "", 2},
		{"cut off in its last line, whose token nobody was granted", string(good[:len(good)-5]), []int{0}, "", 1},
		{"with a line cut off behind", string(good) + "used 0000", []int{0, 1}, "", 2},
		{"empty", "", nil, "", 0},
		{"damaged", strings.Replace(string(good), "used", "usad", 1), []int{0, 1, 2}, "lost its memory", 1},
		{"with a damaged key", strings.Replace(string(good), "\n", "f\n", 1), []int{0, 1, 2}, "lost its memory", 1},
		{"with zeroes", string(make([]byte, 4096)) + "\n" + string(good), []int{0, 1, 2}, "lost its memory", 2},
		{"somebody else's", "hello\n", []int{0, 1, 2}, "lost its memory", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // what is lost is lost after the next restart, too
				u, err := openUsedTokens(path, now.Add(time.Minute), quiet())
				if err != nil {
					t.Fatal(err)
				}
				if u.count() < c.remembers {
					t.Errorf("%d remembered", u.count())
				}
				for n := range 3 {
					err := u.claim(tokenNo(n, now), []byte("b"))
					refused := errors.Is(err, errTokenUsed)
					want := false
					for _, r := range c.refused {
						want = want || r == n
					}
					if refused != want || n == 2 && want && !strings.Contains(err.Error(), c.whyThird) {
						t.Errorf("token %d: %v", n, err)
					}
				}
				if err := u.claim(tokenNo(9, now.Add(time.Hour)), []byte("b")); err != nil {
					t.Errorf("a token made later: %v", err)
				}
				u.close()
			}
		})
	}
}

func TestATokenIsNotTakenThatCannotBeWrittenDown(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	path := filepath.Join(dir, "used-tokens")
	u, err := openUsedTokens(path, now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	if err := u.claim(tokenNo(1, now), []byte("a")); err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(path) // a file that cannot be written to, as a full disk's
	if err != nil {
		t.Fatal(err)
	}
	_ = u.file.Close()
	u.file = readOnly
	if err := u.claim(tokenNo(2, now), []byte("a")); err == nil || errors.Is(err, errTokenUsed) || u.err() == nil {
		t.Errorf("it is taken: %v, %v", err, u.err())
	}
	if err := u.claim(tokenNo(2, now), []byte("b")); err != nil || u.err() != nil {
		t.Errorf("when there is room again: %v, %v", err, u.err())
	}
	b, err := os.ReadFile(path)
	if err != nil || strings.Count(string(b), "used ") != 2 {
		t.Errorf("%q, %v", b, err)
	}
}

func TestUsedTokensAreForgottenADayAfterTheirEnd(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "used-tokens")
	u, err := openUsedTokens(path, now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	old, young := tokenNo(1, now), tokenNo(2, now.Add(20*time.Hour))
	for _, token := range []*identity.Token{old, young} {
		if err := u.claim(token, []byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	u.tidy(old.Expires.Add(forgetAfter))
	if u.count() != 2 {
		t.Error("too early")
	}
	u.tidy(old.Expires.Add(forgetAfter + time.Second))
	if err := u.claim(young, []byte("b")); u.count() != 1 || !errors.Is(err, errTokenUsed) {
		t.Errorf("%d are remembered, %v", u.count(), err)
	}
	if err := u.claim(tokenNo(3, now), []byte("a")); err != nil {
		t.Error(err)
	}
	u.close()
	again, err := openUsedTokens(path, now, quiet())
	if err != nil || again.count() != 2 {
		t.Errorf("%d on disk, %v", again.count(), err)
	}
	again.close()
}

func FuzzUsedTokens(f *testing.F) {
	f.Add([]byte("used 00 1 00\nfloor 1\n"))
	f.Add([]byte("used " + strings.Repeat("0", 32) + " 1800000000 " + strings.Repeat("a", 64) + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		now := time.Unix(1_800_000_000, 0)
		path := filepath.Join(t.TempDir(), "used-tokens")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := openUsedTokens(path, now, quiet())
		if err != nil {
			t.Fatal(err)
		}
		_ = u.claim(tokenNo(1, now.Add(time.Hour)), []byte("a"))
		remembers, floor := u.count(), u.floor
		u.close()
		again, err := openUsedTokens(path, now, quiet())
		if err != nil {
			t.Fatal(err)
		}
		defer again.close()
		if again.count() != remembers || again.floor.Before(floor) {
			t.Errorf("%d of %d remembered, floor %s was %s", again.count(), remembers, again.floor, floor)
		}
	})
}
