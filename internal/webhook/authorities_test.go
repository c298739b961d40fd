package webhook

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

// verify is what an API server with this caBundle does.
func verify(bundle []byte, leaf *x509.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "isthmus-webhook.isthmus-system.svc", CurrentTime: now})
	return err
}

// A replica may hold its certificate for as long as it lives, and an API server may be behind
// by less than overlap: through three years of renewals both always fit.
func TestAuthoritiesAreRenewedWithoutAMomentInWhichACertificateIsNotTrusted(t *testing.T) {
	start := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	all, changed, err := authorities(nil).renewed(start)
	if err != nil || !changed || len(all) != 1 {
		t.Fatal(all, changed, err)
	}
	leaf, err := all.signer(start).issue(serverNames("isthmus-webhook", "isthmus-system"), start)
	if err != nil {
		t.Fatal(err)
	}
	lagging, laggingSince, renewals := all.bundle(), start, 0
	var step time.Duration
	for now := start; now.Before(start.AddDate(3, 0, 0)); now = now.Add(step) {
		next, changed, err := all.renewed(now)
		if err != nil {
			t.Fatal(err)
		}
		if changed {
			renewals++
			lagging, laggingSince = all.bundle(), now
		} else if now.Sub(laggingSince) >= overlap {
			lagging = next.bundle()
		}
		all = next
		if len(all) > 3 {
			t.Fatalf("%d authorities at %s", len(all), now)
		}
		if signer := all.signer(now); !now.Before(halfLife(leaf.Leaf)) || !signer.signed(leaf.Leaf) {
			if leaf, err = signer.issue(serverNames("isthmus-webhook", "isthmus-system"), now); err != nil {
				t.Fatal(err)
			}
		}
		for _, bundle := range [][]byte{all.bundle(), lagging} {
			if err := verify(bundle, leaf.Leaf, now); err != nil {
				t.Fatalf("at %s: %v", now, err)
			}
		}
		// Far from a change every step is like the one before.
		if step = overlap / 2; !changed && now.Sub(laggingSince) > 2*overlap {
			step = 72 * time.Hour
		}
	}
	if renewals < 5 {
		t.Errorf("%d renewals in three years", renewals)
	}
}

func TestAuthoritiesAreKeptAsText(t *testing.T) {
	now := time.Now()
	all, _, err := authorities(nil).renewed(now)
	if err != nil {
		t.Fatal(err)
	}
	all, _, err = all.renewed(now.Add(authorityLife / 2))
	if err != nil || len(all) != 2 {
		t.Fatal(len(all), err)
	}
	text, err := all.encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := parseAuthorities(text)
	if err != nil || len(read) != 2 || string(read.bundle()) != string(all.bundle()) {
		t.Fatal(len(read), err)
	}
	if strings.Contains(string(all.bundle()), "KEY") {
		t.Error("the caBundle has a key")
	}
	if _, changed, err := read.renewed(now.Add(authorityLife / 2)); err != nil || changed {
		t.Error("what was just renewed is renewed again", err)
	}
	other, _, err := authorities(nil).renewed(now)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := authorities{{all[0].cert, other[0].key}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"x", string(all.bundle()), string(swapped), strings.Repeat(string(text), maxAuthorities)} {
		if _, err := parseAuthorities([]byte(bad)); err == nil {
			t.Errorf("%.60q is read", bad)
		}
	}
	if none, err := parseAuthorities(nil); err != nil || none != nil {
		t.Error(none, err)
	}
}
