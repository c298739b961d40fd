package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

var openedPaths = regexp.MustCompile(`isthmus_upstream_connections_total{[^}]*via="gateway"} (\d+)`)

// paths returns how many paths to other clusters a sidecar has opened.
func (s *sidecarProc) paths() (int, error) {
	_, metrics, err := get("http://" + s.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	n := openedPaths.FindStringSubmatch(metrics)
	if n == nil {
		return 0, fmt.Errorf("no path was counted")
	}
	return strconv.Atoi(n[1])
}

// Each request on a path that dies is repeated by itself. What a caller must not repeat may end with
// the instance that it was at, so these are GETs.
func TestAFarInstanceThatIsKilledUnderLoadFailsNoGETOfThoseThatSharePaths(t *testing.T) {
	t.Parallel()
	const callers = 60
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	var replicas []*sidecarProc
	for i := range 3 {
		replicas = append(replicas, m.replica("west", fmt.Sprintf("orders-%d", i+1), 50*time.Millisecond))
	}
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	want := map[string]uint32{"west shop/orders": 3}
	m.settled(want)
	url := "http://" + caller.listener + "/"
	m.serves(url)

	l := requests(t, http.MethodGet, url, callers)
	m.eventually(func() error {
		if n := l.requests.Load(); n < 10*callers {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	n, err := caller.paths()
	if err != nil || n >= callers {
		t.Errorf("%d callers have opened %d paths, %v: they share none", callers, n, err)
	}
	t.Logf("%d callers have opened %d paths", callers, n)
	for _, r := range replicas[:2] {
		r.end(syscall.SIGKILL)
		time.Sleep(300 * time.Millisecond) // of load without it
		r.start()
		m.settled(want)
	}
	l.end()
}
