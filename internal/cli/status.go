package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

const (
	statusPause   = 250 * time.Millisecond // from one question to the next while waiting
	defaultWaited = 30 * time.Second       // --wait without a value
)

// Status is `isthmus status`.
func Status() *cobra.Command {
	var address string
	var wait time.Duration
	var out output
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a gateway, a sidecar, a CA or a webhook knows of the mesh",
		Long: `Asks a process at its admin port. The first line is the verdict: how much there
is, and what is wrong.

Of a gateway it shows the gateways with their tunnels, the services with their
ready instances in every cluster, and how fresh what it knows of every other
gateway's catalog is. Of a sidecar it shows its gateways, and where each of its
upstreams leads. Of a CA it shows what it issues with.

Exits with 1 when the process cannot be asked or something is wrong: it is not
ready, a tunnel or a gateway is down, nobody was met at an address of join, a
catalog is stale, a resource file is bad, clusters declare a port differently,
an upstream leads nowhere, or the certificate ends soon.`,
		Example: `  isthmus status
  isthmus status --wait                         until nothing is wrong, for 30s at most
  isthmus status --admin 127.0.0.1:15020        a sidecar
  isthmus status --admin 127.0.0.1:15014        a CA
  isthmus status -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return usageError{fmt.Errorf("--admin %s: write host:port", address)}
			}
			if wait < 0 {
				return usageError{fmt.Errorf("--wait %s: write how long, such as 30s", wait)}
			}
			r, err := askUntilWell(cmd.Context(), address, wait)
			if err != nil {
				return fmt.Errorf("ask %s: %w; does the process run, and is this its admin address (--admin)?", address, err)
			}
			if out.json() {
				err = r.writeJSON(cmd.OutOrStdout())
			} else {
				err = r.writeTables(cmd.OutOrStdout())
			}
			if err == nil && len(r.problems) > 0 {
				err = silentError{fmt.Errorf("%d problems", len(r.problems))}
			}
			return err
		},
	}
	adminFlag(cmd, &address, "admin address of a gateway (port 15000), sidecar (15020), CA (15014) or webhook (15017)")
	cmd.Flags().DurationVar(&wait, "wait", 0, "ask until nothing is wrong, for this long at most (30s without a value)")
	cmd.Flags().Lookup("wait").NoOptDefVal = defaultWaited.String()
	out.flag(cmd)
	return cmd
}

// report is one answer, and what is wrong by it.
type report struct {
	status.Answer
	at       time.Time
	problems []string
}

// askUntilWell asks until nothing is wrong or the time is up, at least once.
func askUntilWell(ctx context.Context, address string, wait time.Duration) (report, error) {
	for end := time.Now().Add(wait); ; {
		r, err := ask(ctx, address)
		if err == nil && len(r.problems) == 0 || time.Now().Add(statusPause).After(end) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err // the last answer says more than that nobody waits any longer
		case <-time.After(statusPause):
		}
	}
}

func ask(ctx context.Context, address string) (r report, err error) {
	r.Answer, err = status.Ask(ctx, address)
	if err != nil {
		return r, err
	}
	r.at = time.Now()
	switch {
	case r.Gateway != nil:
		r.problems = r.Gateway.Problems(r.at)
	case r.Sidecar != nil:
		r.problems = r.Sidecar.Problems(r.at)
	case r.CA != nil:
		r.problems = r.CA.Problems(r.at)
	case r.Webhook != nil:
		r.problems = r.Webhook.Problems(r.at)
	case r.Waiting != nil:
		r.problems = r.Waiting.Problems()
	}
	return r, nil
}

// writeJSON writes what the process said, with the problems before it.
func (r report) writeJSON(w io.Writer) error {
	type verdict struct {
		OK       bool     `json:"ok"`
		Problems []string `json:"problems"`
	}
	v := verdict{len(r.problems) == 0, append([]string{}, r.problems...)}
	switch {
	case r.Gateway != nil:
		return writeJSON(w, struct {
			verdict
			*status.Gateway
		}{v, r.Gateway})
	case r.Sidecar != nil:
		return writeJSON(w, struct {
			verdict
			*status.Sidecar
		}{v, r.Sidecar})
	case r.CA != nil:
		return writeJSON(w, struct {
			verdict
			*status.CA
		}{v, r.CA})
	case r.Webhook != nil:
		return writeJSON(w, struct {
			verdict
			*status.Webhook
		}{v, r.Webhook})
	}
	return writeJSON(w, struct {
		verdict
		*status.Waiting
	}{v, r.Waiting})
}

// writeTables writes the verdict, and tables for people.
func (r report) writeTables(w io.Writer) error {
	t := newTable(w)
	switch {
	case r.Gateway != nil:
		t.line(r.Gateway.Verdict(r.at))
		t.gateway(r.Gateway)
	case r.Sidecar != nil:
		t.line(r.Sidecar.Verdict(r.at))
		t.sidecar(r.Sidecar)
	case r.CA != nil:
		t.line(r.CA.Verdict(r.at))
		t.ca(r.CA)
	case r.Webhook != nil:
		t.line(r.Webhook.Verdict(r.at))
		t.webhook(r.Webhook)
	case r.Waiting != nil:
		t.line(r.Waiting.Verdict())
	}
	return t.flush()
}

func (t *table) gateway(s *status.Gateway) {
	t.line(fmt.Sprintf("gateway %s, version %s, up %s, certificate until %s", s.Self, s.Version, age(seconds(s.Uptime)), until(s.Certificate)))
	t.head("GATEWAY", "ADDRESS", "TUNNEL", "FOR", "RTT", "STREAMS", "GOSSIP", "NOTE")
	for _, g := range s.Gateways {
		since, rtt, streams := "", "", ""
		if !g.Since.IsZero() {
			since = age(time.Since(g.Since))
		}
		if g.Tunnel == "up" {
			rtt = fmt.Sprintf("%.1f ms", g.RTT)
			streams = fmt.Sprint(g.Streams)
		}
		note := g.LastError
		if g.Revoked {
			note = "revoked"
		}
		if g.Hearsay {
			note = "only gossip tells of it: no tunnel has led to it yet"
		}
		if g.Tunnel == "up" && g.MTUReduced {
			note = fmt.Sprintf("only packets up to %d bytes pass: an MTU has shrunk on the way", g.PacketSize)
		}
		t.row(g.ID, g.Address, g.Tunnel, since, rtt, streams, g.Gossip, note)
	}
	for _, j := range s.Join {
		if j.Gateway.IsZero() {
			t.row("?", j.Address, "down", "", "", "", "", j.LastError)
		}
	}
	t.head("SERVICE", "CLUSTER", "PORT", "READY", "EXPORTED", "REACHABLE", "NOTE")
	for _, svc := range s.Services {
		for _, c := range svc.Clusters {
			t.row(svc.Service, c.Cluster, fmt.Sprintf("%d/%s", c.Port, c.Protocol), fmt.Sprintf("%d of %d", c.Ready, c.Total),
				yesNo(c.Exported), yesNo(c.Reachable), noteOf(c))
		}
	}
	t.trust(s.Trust)
	t.head("CATALOG OF", "VERSION", "DIGEST", "SERVICES", "AGE", "NOTE")
	for _, o := range s.Origins {
		fresh := "current"
		switch {
		case o.Stale && seconds(o.Age) < status.Updating:
			fresh = "updating"
		case o.Stale:
			fresh = "stale " + age(seconds(o.Age))
		}
		t.row(o.Origin, fmt.Sprintf("%d.%d", o.Epoch, o.Seq), fmt.Sprintf("%.12s", o.Digest), o.Records, fresh, catalogNote(o))
	}
	for _, o := range s.Origins {
		if len(o.LeftOut) > 0 {
			t.head("LEFT OUT OF "+o.Origin.String(), "WHY")
		}
		for _, l := range o.LeftOut {
			t.row(l.Service, l.Why)
		}
	}
	t.kubernetes(s.Kubernetes)
	t.resources("RESOURCE FILE", s.Faults)
	t.resources("RESOURCE", s.Objects)
}

// resources shows those that are not in force as they are.
func (t *table) resources(what string, faults []status.ResourceFault) {
	if len(faults) == 0 {
		return
	}
	t.head(what, "FAULT (its last good content is in force)")
	for _, f := range faults {
		for fault := range strings.SplitSeq(f.Error, "\n") {
			t.row(f.File, fault)
		}
	}
}

// kubernetes shows what is known from the API server.
func (t *table) kubernetes(k *status.Kubernetes) {
	if k == nil {
		return
	}
	t.head("KUBERNETES "+k.Server, "OBJECTS", "KNOWN AS OF")
	for _, kind := range k.Kinds {
		asOf := "now"
		switch {
		case !kind.Known:
			asOf = "never: " + kind.Error
		case kind.Lost > 0:
			asOf = age(seconds(kind.Lost)) + " ago: " + kind.Error
		}
		t.row(kind.Kind, kind.Objects, asOf)
	}
}

// trust shows the bundles in force, and who is behind.
func (t *table) trust(all []status.Trust) {
	t.head("TRUST DOMAIN", "BUNDLE", "ROOTS", "RETIRED", "REVOKED", "NOTE")
	for i := range all {
		d := &all[i]
		number, retired := "none", 0
		if d.Bundle > 0 {
			number = fmt.Sprint(d.Bundle)
		}
		for _, r := range d.Roots {
			if r.Retired {
				retired++
			}
		}
		note := ""
		if n := len(d.Lacking); n > 0 {
			note = fmt.Sprintf("%d behind", n)
		}
		t.row(d.Domain, number, len(d.Roots)-retired, retired, len(d.Revoked), note)
	}
	for i := range all {
		if len(all[i].Lacking) > 0 {
			t.head("BEHIND IN TRUST DOMAIN " + all[i].Domain)
		}
		for _, l := range all[i].Lacking {
			t.row(l)
		}
		if len(all[i].Revoked) > 0 {
			t.head("REVOKED IN TRUST DOMAIN "+all[i].Domain, "SINCE")
		}
		for _, r := range all[i].Revoked[max(0, len(all[i].Revoked)-shownRevoked):] {
			t.row(r.What, r.At.UTC().Format(time.RFC3339))
		}
	}
}

// shownRevoked is how many of the newest revocations a table shows; JSON has all.
const shownRevoked = 20

// noteOf says what is special about a service in a cluster.
func noteOf(c status.ClusterService) string {
	var notes []string
	if c.Plain {
		notes = append(notes, "plain")
	}
	if c.LeftOut != "" {
		notes = append(notes, "gets nothing: "+c.LeftOut)
	}
	return strings.Join(notes, ", ")
}

// catalogNote says how much of a catalog does not count here.
func catalogNote(o status.Origin) string {
	var notes []string
	if o.LeftOutTotal > 0 {
		notes = append(notes, fmt.Sprintf("%d left out", o.LeftOutTotal))
	}
	if o.NotImported > 0 {
		notes = append(notes, fmt.Sprintf("%d not imported", o.NotImported))
	}
	return strings.Join(notes, ", ")
}

func (t *table) sidecar(s *status.Sidecar) {
	t.line(fmt.Sprintf("sidecar %s, version %s, up %s, certificate until %s", s.Identity, s.Version, age(seconds(s.Uptime)), until(s.Certificate)))
	if i := s.Interception; i.Mode != "explicit" {
		t.line(fmt.Sprintf("interception %s: mode %s, cgroup %s", i.Name, i.Mode, i.Cgroup))
	}
	for _, svc := range s.Services {
		t.line(fmt.Sprintf("service %s, port %d/%s, program at %s: ready %s", svc.Service, svc.Port, svc.Protocol, svc.Target, yesNo(svc.Ready)))
	}
	t.head("GATEWAY", "ROUTES FROM IT", "KNOWS THE SERVICE", "NOTE")
	for _, g := range s.Gateways {
		knows := "" // there is none
		if len(s.Services) > 0 {
			knows = yesNo(g.Registered)
		}
		t.row(g.Address, yesNo(g.XDS), knows, g.LastError)
	}
	t.trust(s.Trust)
	t.head("UPSTREAM", "LISTENER", "STATE", "HOST", "INSTANCE", "READY", "ACTIVE", "IDLE", "SHARED", "LATENCY", "NOTE")
	for _, u := range s.Upstreams {
		hosts := append(u.Local[:len(u.Local):len(u.Local)], u.Gateways...)
		if len(hosts) == 0 {
			t.row(u.Destination, u.Listen, u.State)
		}
		for _, h := range hosts {
			instance, latency, note := h.Instance, "", h.LastError
			if instance == "" {
				instance = "(gateway)"
			}
			shared := ""
			if h.Shared > 0 {
				shared = fmt.Sprintf("%d with %d streams", h.Shared, h.Streams)
			}
			if h.LatencyMS > 0 {
				latency = fmt.Sprintf("%.1f ms", h.LatencyMS)
			}
			if h.EjectedFor > 0 {
				note = "avoided for " + age(seconds(h.EjectedFor)) + ": " + note
			}
			t.row(u.Destination, u.Listen, u.State, h.Address, instance, yesNo(h.Ready), h.Active, h.Idle, shared, latency, note)
		}
		for _, name := range u.Avoided {
			t.row(u.Destination, u.Listen, u.State, "", name, "avoided")
		}
	}
}

func (t *table) webhook(s *status.Webhook) {
	t.line(fmt.Sprintf("webhook %s, version %s, up %s, certificate until %s, gives pods of cluster %s sidecars of %s",
		s.Webhook, s.Version, age(seconds(s.Uptime)), until(s.Certificate), s.Cluster, s.Image))
}

func (t *table) ca(s *status.CA) {
	t.line(fmt.Sprintf("CA %s, version %s, up %s, certificate until %s", s.ID, s.Version, age(seconds(s.Uptime)), until(s.Certificate)))
	t.line(fmt.Sprintf("issues with intermediate %.19s, for %s at most; %d used tokens remembered", s.Intermediate, age(seconds(s.TTL)), s.TokensUsed))
}

func until(c status.Certificate) string { return c.NotAfter.UTC().Format(time.RFC3339) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// age shows a duration with the precision that people care for.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return d.Round(time.Second).String()
	default:
		return d.Round(time.Minute).String()
	}
}
