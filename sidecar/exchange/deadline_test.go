package exchange

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestADeadlineEndsWhoWaitsAndWhoDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		waited := &deadline{Context: parent, end: time.Now().Add(time.Second)}
		quiet := &deadline{Context: parent, end: time.Now().Add(time.Second)}
		began := time.Now()
		if waited.Err() != nil || quiet.Err() != nil {
			t.Error("over at once")
		}
		<-waited.Done()
		if took := time.Since(began); took != time.Second || !errors.Is(waited.Err(), context.DeadlineExceeded) || !errors.Is(quiet.Err(), context.DeadlineExceeded) {
			t.Errorf("after %v: %v and %v", took, waited.Err(), quiet.Err())
		}
		late := &deadline{Context: parent, end: time.Now().Add(time.Hour)}
		cancel()
		<-late.Done()
		if !errors.Is(late.Err(), context.Canceled) {
			t.Error(late.Err())
		}
		waited.release()
		quiet.release()
		late.release()
	})
}
