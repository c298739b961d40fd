package webhook

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// With failurePolicy Ignore, a question that nobody answers is a pod without a sidecar.
func TestAReplicaThatEndsAnswersUntilTheAPIServerAsksAnother(t *testing.T) {
	for drain, want := range map[time.Duration]time.Duration{10 * time.Second: lingers, 4 * time.Second: 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWebhook(t)
			w.stays, w.server = w.ready.Condition("drain", ""), w.newServer()
			w.wired.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), drain)
			defer cancel()
			closed := make(chan time.Duration, 1)
			begin := time.Now()
			w.server.RegisterOnShutdown(func() { closed <- time.Since(begin) })
			if err := w.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			if got := <-closed; got != want {
				t.Errorf("with %s to drain it answers for %s, want %s", drain, got, want)
			}
			if unmet := w.ready.Unmet(); len(unmet) != 1 || unmet[0].Name != "drain" {
				t.Errorf("meanwhile not ready because of %v", unmet)
			}
		})
	}
}
