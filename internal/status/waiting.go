package status

// Waiting is what a gateway or sidecar says of itself while it waits for its identity and
// is nobody yet.
type Waiting struct {
	Waiting string      `json:"waiting"` // who waits, such as "gateway west/west-1"
	Version string      `json:"version"`
	Uptime  float64     `json:"uptime"` // seconds
	Ready   bool        `json:"ready"`  // never
	Pending []Condition `json:"pending"`
}

// Problems returns what is waited for.
func (w *Waiting) Problems() []string { return []string{"not ready: " + Explain(w.Pending)} }

// Verdict is the state in one line.
func (w *Waiting) Verdict() string { return w.Waiting + ", " + w.Problems()[0] }
