// Package authorize tells people what internal/policy decided: it counts decisions,
// logs refusals and audits them.
package authorize

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/prom"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

const (
	// logRate and logBurst bound the lines about refused calls, a second and at once:
	// what is beyond is at debug level only. The metrics have all, the audit stream counts.
	logRate  = 5
	logBurst = 20
	// logPause is how soon the same is said again of the same caller and service, with how
	// often it was so. maxSaid bounds those of which that is remembered.
	logPause = time.Minute
	maxSaid  = 1024
)

// Config is what an [Observer] is made of. Everything has a default.
type Config struct {
	Audit   *audit.Log            // nil discards
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: not registered
}

// Observer is told of decisions. Its methods may be called concurrently.
type Observer struct {
	audit    *audit.Log
	log      *slog.Logger
	lines    *rate.Limiter
	said     said
	allowed  [policy.Causes]prometheus.Counter
	refused  [policy.Causes]prometheus.Counter
	allows   prometheus.Counter // a dry run that would
	refuses  prometheus.Counter
	rejudged prometheus.Counter
}

// New returns an observer and registers its metrics.
func New(cfg Config) (*Observer, error) {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_authorization_decisions_total",
		Help: "Calls that were decided about, connections or requests, by decision and by what decided."}, []string{"decision", "cause"})
	tried := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_authorization_dry_run_total",
		Help: "Calls that policies with dryRun would have decided otherwise, by how."}, []string{"decision"})
	o := &Observer{
		audit: cfg.Audit, log: cfg.Log, lines: rate.NewLimiter(logRate, logBurst),
		allows: tried.WithLabelValues("allowed"), refuses: tried.WithLabelValues("refused"),
		rejudged: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_authorization_ended_total",
			Help: "Open connections that were ended because their caller may not call any more."}),
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	for c := range policy.Causes {
		switch c {
		case policy.ByAllow:
			o.allowed[c] = decisions.WithLabelValues("allowed", c.String())
		case policy.ByDefault:
			o.allowed[c] = decisions.WithLabelValues("allowed", c.String())
			o.refused[c] = decisions.WithLabelValues("refused", c.String())
		case policy.NeedsRequest:
		default:
			o.refused[c] = decisions.WithLabelValues("refused", c.String())
		}
	}
	return o, prom.Register(cfg.Metrics, decisions, tried, o.rejudged)
}

// Call is what was decided about.
type Call struct {
	Caller       *policy.Caller
	Peer         net.Addr // may be nil
	To           mesh.Destination
	Method, Path []byte // nil: a connection was
}

// what names what the caller asked for: a few for each service. Whatever else it chose is
// the example.
func (c *Call) what() (what, example string) {
	to, method, path := c.To.String(), string(c.Method), string(c.Path)
	switch method {
	case "":
		return to, path
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return to + " " + method, path
	}
	return to + " (another method)", method + " " + path
}

// Decided takes note of a final decision of a. Of a connection whose requests decide
// it is told nothing but them.
func (o *Observer) Decided(a *policy.Authorizer, d *policy.Decision, c *Call) {
	if d.Allowed {
		o.allowed[d.Cause].Inc()
		if o.audit.Served() {
			o.audit.Add(c.event(audit.Granted, a.Explain(d.Verdict, c.Caller)))
		}
	} else {
		o.refused[d.Cause].Inc()
		why := a.Explain(d.Verdict, c.Caller)
		o.audit.Add(c.event(audit.Refused, why))
		o.say("a call is refused", c, why)
	}
	if d.WouldDiffer() {
		o.tried(a, d, c)
	}
}

// tried takes note of a dry run that would have decided otherwise.
func (o *Observer) tried(a *policy.Authorizer, d *policy.Decision, c *Call) {
	said := "a dry run would refuse a call"
	if d.DryRun.Allowed {
		said = "a dry run would allow a call"
		o.allows.Inc()
	} else {
		o.refuses.Inc()
	}
	why := a.Explain(d.DryRun, c.Caller)
	o.audit.Add(c.event(audit.DryRun, said+": "+why))
	o.say(said, c, why)
}

// Ended takes note of an open connection that ends because a decides otherwise now.
func (o *Observer) Ended(a *policy.Authorizer, d *policy.Decision, c *Call) {
	o.rejudged.Inc()
	why := a.Explain(d.Verdict, c.Caller)
	o.audit.Add(c.event(audit.Ended, why))
	o.say("a connection ends: its caller may not call any more", c, why)
}

func (o *Observer) say(what string, c *Call, why string) {
	level := slog.LevelInfo
	to, who := c.To.String(), c.Caller.String()
	n := o.said.add(saying{what, to, who, why})
	if n == 0 || !o.lines.Allow() {
		level = slog.LevelDebug
	}
	o.log.Log(context.Background(), level, what, "service", to, "peer_id", who, "peer_addr", addr(c.Peer),
		"request", strings.TrimSpace(string(c.Method)+" "+string(c.Path)), "why", why, "count", max(n, 1))
}

// saying is a line of the log without what differs each time.
type saying struct{ what, to, who, why string }

// said is what was said lately. The zero value is ready.
type said struct {
	mu  sync.Mutex
	all map[saying]*state.Tally
}

// add counts a line and returns how many it is about, or 0 when it was said a moment ago.
// When there are too many different ones all are forgotten: then the rate bounds them.
func (s *said) add(what saying) int {
	s.mu.Lock()
	t := s.all[what]
	if t == nil {
		if s.all == nil || len(s.all) >= maxSaid {
			s.all = make(map[saying]*state.Tally)
		}
		t = new(state.Tally)
		s.all[what] = t
	}
	s.mu.Unlock()
	return t.Add(time.Now(), logPause)
}

func (c *Call) event(d audit.Decision, why string) audit.Event {
	from, _, err := net.SplitHostPort(addr(c.Peer))
	if err != nil {
		from = addr(c.Peer)
	}
	who := ""
	if !c.Caller.Anonymous {
		who = c.Caller.String()
	}
	what, example := c.what()
	return audit.Event{Kind: audit.Call, Decision: d, Who: who, From: from, What: what, Example: example, Why: why}
}

func addr(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
