package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// second is what came of the requests that ended within a second: a line of the
// output.
type second struct {
	Time   int64          `json:"time"` // Unix milliseconds of its end
	OK     int            `json:"ok"`
	Failed int            `json:"failed"`
	From   map[string]int `json:"from"`             // who answered, CLUSTER/POD
	Slow   int64          `json:"slow"`             // ms, the slowest request
	Gap    int64          `json:"gap"`              // ms, the longest time without an answer, also from before
	Errors []string       `json:"errors,omitempty"` // the first few
}

// caller sends requests at a rate, whether or not earlier ones have been answered:
// a user does not wait because another one does.
type caller struct {
	url    string
	client *http.Client

	mu   sync.Mutex
	now  second
	last time.Time // the newest answer
}

func call(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("call", flag.ContinueOnError)
	rate := flags.Int("rate", 50, "requests a second")
	fresh := flags.Bool("fresh", false, "a connection for every request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("call: write one URL")
	}
	c := &caller{url: flags.Arg(0), last: time.Now(), client: &http.Client{
		Timeout: 60 * time.Second,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 100, DisableKeepAlives: *fresh,
		},
	}}
	c.now.From = map[string]int{}
	ticks, seconds := time.NewTicker(time.Second/time.Duration(*rate)), time.NewTicker(time.Second)
	defer ticks.Stop()
	defer seconds.Stop()
	var open sync.WaitGroup
	for {
		select {
		case <-ticks.C:
			open.Go(func() { c.one(context.WithoutCancel(ctx)) })
		case <-seconds.C:
			c.report()
		case <-ctx.Done():
			open.Wait()
			c.report()
			return nil
		}
	}
}

func (c *caller) one(ctx context.Context) {
	begin := time.Now()
	from, err := c.ask(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Slow = max(c.now.Slow, time.Since(begin).Milliseconds())
	if err != nil {
		if c.now.Failed++; len(c.now.Errors) < 5 {
			c.now.Errors = append(c.now.Errors, fmt.Sprintf("after %v: %v", time.Since(begin).Round(time.Millisecond), err))
		}
		return
	}
	c.now.OK++
	c.now.From[from]++
	c.now.Gap = max(c.now.Gap, time.Since(c.last).Milliseconds())
	c.last = time.Now()
}

func (c *caller) ask(ctx context.Context) (from string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return "", err
	}
	res, err := c.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s %.300s", res.Status, res.Header.Get("Proxy-Status"), body)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return "", err
	}
	return a.Cluster + "/" + a.Pod, nil
}

// report writes the line of the second that ends, and begins the next one.
func (c *caller) report() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Time = time.Now().UnixMilli()
	c.now.Gap = max(c.now.Gap, time.Since(c.last).Milliseconds())
	_ = json.NewEncoder(os.Stdout).Encode(c.now)
	c.now = second{From: map[string]int{}}
}
