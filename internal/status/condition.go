package status

import "strings"

// Condition is a condition of readiness that does not hold.
type Condition struct {
	Name   string `json:"name"`
	Reason string `json:"reason"` // why it does not hold
}

// Explain lists conditions on one line: name (reason), name (reason).
func Explain(unmet []Condition) string {
	texts := make([]string, len(unmet))
	for i, c := range unmet {
		texts[i] = c.Name
		if c.Reason != "" {
			texts[i] += " (" + c.Reason + ")"
		}
	}
	return strings.Join(texts, ", ")
}
