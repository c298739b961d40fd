// Package authorize tells people what internal/policy decided: it counts decisions,
// logs refusals and audits them.
package authorize

import (
	"context"
	"log/slog"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/prom"
)

const (
	// logRate and logBurst bound the lines about refused calls, a second and at once:
	// what is beyond is at debug level only. The audit stream and the metrics have all.
	logRate  = 5
	logBurst = 20
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

// what names what the caller asked for.
func (c *Call) what() string {
	return strings.TrimRight(c.To.String()+" "+string(c.Method)+" "+string(c.Path), " ")
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
	if !o.lines.Allow() {
		level = slog.LevelDebug
	}
	o.log.Log(context.Background(), level, what, "service", c.To.String(), "peer_id", c.Caller.String(), "peer_addr", addr(c.Peer),
		"request", strings.TrimSpace(string(c.Method)+" "+string(c.Path)), "why", why)
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
	return audit.Event{Kind: audit.Call, Decision: d, Who: who, From: from, What: c.what(), Why: why}
}

func addr(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
