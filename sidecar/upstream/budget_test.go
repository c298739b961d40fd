package upstream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func spend(s *Service, most int) (granted int) {
	for range most {
		if !s.spendRetry() {
			return granted
		}
		granted++
	}
	return granted
}

func TestAQuietServiceMayRetryTenTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(newShared(Config{}), mesh.Destination{}, "test")
		if got := spend(s, 1000); got != 100 {
			t.Errorf("%d retries at once, want 100: 10 a second for the window of 10 s", got)
		}
		time.Sleep(5 * time.Second)
		if got := spend(s, 1000); got != 0 {
			t.Errorf("%d retries within the same window, want 0", got)
		}
		time.Sleep(5 * time.Second)
		if got := spend(s, 1000); got != 100 {
			t.Errorf("%d retries a window later, want 100", got)
		}
	})
}

func TestABusyServiceMayRetryAFifthOfItsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(newShared(Config{}), mesh.Destination{}, "test")
		retries := 0
		for range 60 { // a minute at 1000/s where everything fails
			for range 1000 {
				s.budget.request(s.shared.now())
				if s.spendRetry() {
					retries++
				}
			}
			time.Sleep(time.Second)
		}
		// 60,000 requests earn 12,000, and each of 6 windows has 100 for free.
		if retries < 12_000 || retries > 12_000+7*100 {
			t.Errorf("%d retries of 60,000 requests, want 20 %% and 10 a second", retries)
		}
		time.Sleep(time.Hour)
		if got := spend(s, 1000); got != 100 {
			t.Errorf("%d retries after a quiet hour, want 100: what was earned does not keep", got)
		}
	})
}
