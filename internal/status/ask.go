package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	askTimeout = 5 * time.Second
	maxBytes   = 64 << 20 // of an answer: a mesh of 100,000 services
)

// Answer is what a process says of itself. One of them is set.
type Answer struct {
	Gateway *Gateway
	Sidecar *Sidecar
	CA      *CA
	Webhook *Webhook
	Waiting *Waiting // a gateway or sidecar, before it has an identity
}

// Ask asks the process whose admin port is at host:port.
func Ask(ctx context.Context, admin string) (Answer, error) {
	b, answered, err := request(ctx, http.MethodGet, admin, "/status", nil, askTimeout)
	if err != nil {
		return Answer{}, err
	}
	a, err := Parse(b)
	if err != nil {
		return a, fmt.Errorf("%s answers %s and no status: %w", admin, answered, err)
	}
	return a, nil
}

// Parse reads what a process answers on /status.
func Parse(b []byte) (Answer, error) {
	var who struct {
		Self     string `json:"self"`     // a gateway's
		Identity string `json:"identity"` // a sidecar's
		CA       string `json:"ca"`       // a CA's
		Webhook  string `json:"webhook"`  // a webhook's
		Waiting  string `json:"waiting"`  // that of one which waits
	}
	if err := json.Unmarshal(b, &who); err != nil {
		return Answer{}, err
	}
	switch {
	case who.Self != "":
		var g Gateway
		return Answer{Gateway: &g}, json.Unmarshal(b, &g)
	case who.Identity != "":
		var s Sidecar
		return Answer{Sidecar: &s}, json.Unmarshal(b, &s)
	case who.CA != "":
		var ca CA
		return Answer{CA: &ca}, json.Unmarshal(b, &ca)
	case who.Webhook != "":
		var w Webhook
		return Answer{Webhook: &w}, json.Unmarshal(b, &w)
	case who.Waiting != "":
		var w Waiting
		return Answer{Waiting: &w}, json.Unmarshal(b, &w)
	}
	return Answer{}, fmt.Errorf("it names neither a gateway nor a sidecar nor a CA nor a webhook")
}

// request asks the admin port at host:port and returns the answer's body, at most
// maxBytes of it, and its status line.
func request(ctx context.Context, method, admin, pathAndQuery string, body io.Reader, timeout time.Duration) (answer []byte, status string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+admin+pathAndQuery, body)
	if err != nil {
		return nil, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxBytes))
	return answer, resp.Status, err
}
