package audit

import (
	"strings"
	"unicode/utf8"
)

// Kind is what was decided about.
type Kind string

// The kinds of decisions.
const (
	Call         Kind = "call"         // a workload's connection or request
	Registration Kind = "registration" // a sidecar that offers to serve
	Tunnel       Kind = "tunnel"       // a gateway's connection to another
	Catalog      Kind = "catalog"      // what another cluster offers
	Certificate  Kind = "certificate"  // one that was issued, or taken into use
	Trust        Kind = "trust"        // roots, revocations, policies
	Admin        Kind = "admin"        // what was asked for on the admin port
	Audit        Kind = "audit"        // this stream itself
)

// Decision is what became of it.
type Decision string

// The decisions.
const (
	Granted Decision = "granted"
	Refused Decision = "refused"
	Ended   Decision = "ended"   // what was granted before is no longer
	DryRun  Decision = "dry-run" // would be refused by a rule that is tried out
	Lost    Decision = "lost"    // events that found the queue full
)

// Event is one decision. Texts longer than 1 KiB are cut, since others may choose
// them.
type Event struct {
	Kind     Kind     `json:"kind"`
	Decision Decision `json:"decision"`
	Who      string   `json:"who,omitempty"`  // SPIFFE ID of whom it is about; empty: nobody proved anything
	From     string   `json:"from,omitempty"` // its address, without a port
	What     string   `json:"what,omitempty"` // what it asked for
	// Example is what may differ each time, the path of a request. Events that differ in it
	// only are repetitions, but those of calls that were granted.
	Example string `json:"example,omitempty"`
	Why     string `json:"why,omitempty"` // the rule, or the error
}

// key is the event without what makes no difference.
func (e Event) key() Event {
	if e.Kind != Call || e.Decision != Granted {
		e.Example = ""
	}
	return e
}

// maxText bounds one text of an event, in bytes.
const maxText = 1 << 10

// bounded returns e without anything that is too long.
func (e Event) bounded() Event {
	for _, text := range []*string{&e.Who, &e.From, &e.What, &e.Example, &e.Why} {
		if len(*text) > maxText {
			cut := maxText
			for cut > maxText-utf8.UTFMax && !utf8.RuneStart((*text)[cut]) {
				cut--
			}
			*text = strings.Clone((*text)[:cut]) + "…"
		}
	}
	return e
}
