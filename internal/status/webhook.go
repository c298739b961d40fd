package status

import "time"

// Webhook is what a process answers that gives pods their sidecars.
type Webhook struct {
	Webhook     string      `json:"webhook"` // the MutatingWebhookConfiguration
	Version     string      `json:"version"`
	Ready       bool        `json:"ready"`
	Pending     []Condition `json:"pending,omitempty"` // of readiness
	Uptime      float64     `json:"uptime_seconds"`
	Certificate Certificate `json:"certificate"` // which it shows the API server
	Cluster     string      `json:"cluster"`     // whose pods they are
	Image       string      `json:"image"`       // of their sidecars
	Lost        []LostKind  `json:"lost,omitempty"`
	Reload      *Reload     `json:"reload,omitempty"` // the last one
}

// LostKind is a kind of Kubernetes of which nothing is heard.
type LostKind struct {
	Kind  string    `json:"kind"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
}

// Problems returns everything that is wrong.
func (w *Webhook) Problems(now time.Time) []string {
	var p problems
	p.common(w.Pending, w.Certificate, "", w.Reload, now)
	for _, k := range w.Lost {
		p.add("the API server says nothing of %s since %s: %s", k.Kind, k.Since.UTC().Format(time.RFC3339), k.Error)
	}
	return p
}

// Verdict is the webhook's state in one line.
func (w *Webhook) Verdict(now time.Time) string { return verdict(w.Problems(now), "1 webhook") }
