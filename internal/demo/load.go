package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	requestRate    = 250              // requests per second, sent whether or not earlier ones were answered
	requestTimeout = 10 * time.Second // a request without an answer by then has failed
	maxInFlight    = 2000             // beyond it a request fails at once: the mesh has stopped answering
)

// answer is one finished request.
type answer struct {
	at       time.Time // when it finished
	took     time.Duration
	cluster  string // who served it; empty when it failed
	instance string
	err      error
}

// load sends requests at a steady rate and keeps their answers, by phase.
type load struct {
	url    string
	client *http.Client
	wg     sync.WaitGroup
	slots  chan struct{}

	mu      sync.Mutex
	current *record
}

// record is what happened during one phase. Requests belong to the phase in
// which they were sent.
type record struct {
	name    string
	started time.Time
	ended   time.Time
	answers []answer
}

func newLoad(url string) *load {
	return &load{
		url:   url,
		slots: make(chan struct{}, maxInFlight),
		client: &http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 64,
				IdleConnTimeout:     30 * time.Second,
			},
		},
	}
}

// run sends requests until ctx ends and returns when every answer is in.
// Requests outlive ctx: one that was sent counts.
func (l *load) run(ctx context.Context) {
	t := time.NewTicker(time.Second / requestRate)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			l.wg.Wait()
			l.client.CloseIdleConnections()
			return
		case <-t.C:
			l.send(ctx)
		}
	}
}

func (l *load) send(ctx context.Context) {
	l.mu.Lock()
	rec := l.current
	l.mu.Unlock()
	if rec == nil {
		return
	}
	select {
	case l.slots <- struct{}{}:
	default:
		l.note(rec, answer{at: time.Now(), err: fmt.Errorf("%d requests are waiting for an answer", maxInFlight)})
		return
	}
	l.wg.Go(func() {
		defer func() { <-l.slots }()
		l.note(rec, l.get(context.WithoutCancel(ctx)))
	})
}

// get sends one request and waits for its answer.
func (l *load) get(ctx context.Context) answer {
	began := time.Now()
	cluster, instance, err := ask(ctx, l.client, l.url)
	return answer{at: time.Now(), took: time.Since(began), cluster: cluster, instance: instance, err: err}
}

func (l *load) note(rec *record, a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec.answers = append(rec.answers, a)
}

// begin starts a phase and returns its record; what is sent from now on counts for it.
func (l *load) begin(name string) *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.current != nil {
		l.current.ended = now
	}
	l.current = &record{name: name, started: now}
	return l.current
}

// stop ends the last phase.
func (l *load) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		l.current.ended = time.Now()
		l.current = nil
	}
}

// servedSince counts who served the answers of rec that finished after t, and
// how many requests failed.
func (l *load) servedSince(rec *record, t time.Time) (served map[string]int, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	served = map[string]int{}
	for _, a := range rec.answers {
		switch {
		case a.at.Before(t):
		case a.err != nil:
			failed++
		default:
			served[a.cluster]++
		}
	}
	return served, failed
}

// gap returns the longest time within the phase in which no request was answered.
func (r *record) gap() time.Duration {
	var times []time.Time
	for _, a := range r.answers {
		if a.err == nil && !a.at.After(r.ended) {
			times = append(times, a.at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	longest, last := time.Duration(0), r.started
	for _, t := range append(times, r.ended) {
		longest = max(longest, t.Sub(last))
		last = t
	}
	return longest
}

// percentile returns the time within which the fraction p of the answered requests was answered.
func (r *record) percentile(p float64) time.Duration {
	var took []time.Duration
	for _, a := range r.answers {
		if a.err == nil {
			took = append(took, a.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[int(float64(len(took)-1)*p)]
}

// ask sends one GET to the demo's program and returns who answered.
func ask(ctx context.Context, c *http.Client, url string) (cluster, instance string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("%s: %s %s", resp.Status, strings.TrimSpace(string(body)), resp.Header.Get("Proxy-Status"))
	}
	cluster, instance, ok := strings.Cut(strings.TrimSpace(string(body)), "/")
	if !ok {
		return "", "", errors.New("an answer from something that is not the demo's program")
	}
	return cluster, instance, nil
}
