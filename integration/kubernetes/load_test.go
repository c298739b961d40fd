package kubernetes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// load is a running `probe call` in a pod.
type load struct {
	cluster        *bed.Cluster
	namespace, pod string
}

// second is a line of its output (probe/call.go).
type second struct {
	Time       int64
	OK, Failed int
	From       map[string]int
	Slow, Gap  int64
	Errors     []string
}

// verdict is what came of the requests of a time.
type verdict struct {
	ok, failed int
	from       map[string]int // by cluster
	slowest    time.Duration
	gap        time.Duration // the longest time without an answer
	errors     []string
}

func (v verdict) String() string {
	return fmt.Sprintf("%d answered %v, %d failed, no answer for %v, slowest %v", v.ok, v.from, v.failed, v.gap, v.slowest)
}

// startLoad makes a pod that calls url, and waits for its first answer.
func startLoad(t *testing.T, c *bed.Cluster, namespace, pod, url string, flags ...string) *load {
	t.Helper()
	ctx := t.Context()
	if err := c.Apply(ctx, client(namespace, pod, append(append([]string{"call"}, flags...), url)...)); err != nil {
		t.Fatal(err)
	}
	l := &load{cluster: c, namespace: namespace, pod: pod}
	if err := harness.Eventually(func() error {
		all, err := l.since(time.Time{})
		if err == nil && all.ok == 0 {
			err = fmt.Errorf("%s/%s has no answer yet: %v", namespace, pod, all.errors)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

// since sums up the seconds that ended after a time.
func (l *load) since(begin time.Time) (verdict, error) {
	log, err := l.cluster.PodLog(l.namespace, l.pod, "client")
	if err != nil {
		return verdict{}, err
	}
	v := verdict{from: map[string]int{}}
	for line := range strings.Lines(log) {
		var s second
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return verdict{}, fmt.Errorf("%w in %q", err, line)
		}
		if s.Time < begin.UnixMilli() {
			continue
		}
		v.ok += s.OK
		v.failed += s.Failed
		for from, n := range s.From {
			cluster, _, _ := strings.Cut(from, "/")
			v.from[cluster] += n
		}
		v.slowest = max(v.slowest, time.Duration(s.Slow)*time.Millisecond)
		v.gap = max(v.gap, time.Duration(s.Gap)*time.Millisecond)
		v.errors = append(v.errors, s.Errors...)
	}
	return v, nil
}

// unharmed waits until what happened since begin shows in the log, and fails the test if
// a request failed. It returns what came of them.
func (l *load) unharmed(t *testing.T, begin time.Time) verdict {
	t.Helper()
	until := time.Now().Add(time.Second) // of which the whole second is in the log
	var v verdict
	if err := harness.Eventually(func() error {
		after, err := l.since(until)
		if err != nil {
			return err
		}
		if after.ok == 0 {
			return fmt.Errorf("no answer since: %v", after)
		}
		v, err = l.since(begin)
		return err
	}); err != nil {
		t.Error(err)
	}
	t.Logf("%v", v)
	if v.failed > 0 {
		t.Errorf("%d of %d requests failed: %s", v.failed, v.ok+v.failed, strings.Join(v.errors, "\n"))
	}
	return v
}

// servedBy waits until a cluster's replicas answer the load, and only those.
func (l *load) servedBy(t *testing.T, cluster string) {
	t.Helper()
	err := harness.Eventually(func() error {
		v, err := l.since(time.Now().Add(-3 * time.Second))
		if err == nil && (v.ok == 0 || v.from[cluster] != v.ok) {
			err = fmt.Errorf("served by %v, want %s", v.from, cluster)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
