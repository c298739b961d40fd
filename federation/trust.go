package federation

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// TrustReport is what a gateway says of the bundles that it and its sidecars hold.
type TrustReport struct {
	// Held is the bundle in force of every trust domain that the gateway takes.
	Held map[string]HeldBundle `json:"held"`
	// Root is the fingerprint of the root that its certificate is under. Outdated: that
	// is not the last root of its bundle.
	Root     string `json:"root,omitempty"`
	Outdated bool   `json:"outdated,omitempty"`
	// Sidecars is how many have said what they hold; Behind are those of them that hold
	// less than the gateway, at most 64, and More counts the others.
	Sidecars int            `json:"sidecars"`
	Behind   []TrustSidecar `json:"behind,omitempty"`
	More     int            `json:"more,omitempty"`
}

// HeldBundle is a bundle in force.
type HeldBundle struct {
	Number uint64 `json:"number"` // 0: there is none yet
	Digest []byte `json:"digest,omitempty"`
}

// TrustSidecar is a sidecar that holds less than its gateway.
type TrustSidecar struct {
	ID       string            `json:"id"`
	Lacks    map[string]uint64 `json:"lacks,omitempty"` // by trust domain: the number of the bundle that it still has
	Root     string            `json:"root,omitempty"`
	Outdated bool              `json:"outdated,omitempty"`
	Refused  string            `json:"refused,omitempty"`
}

// trustMessage is the body of "POST /trust" and of its answer.
type trustMessage struct {
	Report  TrustReport       `json:"report"`
	Bundles []json.RawMessage `json:"bundles,omitempty"` // signed, as package identity reads them
}

// trustPeer is what is known of another gateway's trust.
type trustPeer struct {
	report TrustReport
	asked  time.Time // when an exchange was begun last
	told   map[string]HeldBundle
	busy   bool
}

// trustExchange tells the gateways that there are tunnels to which bundles are in force here,
// and takes theirs. Its methods may be called concurrently.
type trustExchange struct {
	trust    *identity.TrustStore
	sidecars func() (behind []TrustSidecar, all int) // nil: nobody knows
	client   client
	view     *state.Store[*View]
	log      *slog.Logger

	mu      sync.Mutex
	peers   map[mesh.GatewayID]*trustPeer
	refused map[string]string // why a bundle was not taken last, by trust domain
	lines   *rate.Limiter     // of the log, about that: a gateway may invent bundles
}

// ofLocked returns the entry of a gateway, which it makes.
func (t *trustExchange) ofLocked(id mesh.GatewayID) *trustPeer {
	p := t.peers[id]
	if p == nil {
		p = &trustPeer{told: map[string]HeldBundle{}}
		t.peers[id] = p
	}
	return p
}

// notRefused notes why a bundle is not taken, and reports whether that is news.
func (t *trustExchange) notRefused(td string, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.refused[td]
	t.refused[td] = err.Error()
	return was != err.Error()
}

// TrustReports returns what the gateways say that there are tunnels to.
func (f *Federation) TrustReports() map[mesh.GatewayID]TrustReport { return f.trust.reports() }

// TrustReport returns what this gateway says of itself.
func (f *Federation) TrustReport() TrustReport { return f.trust.own() }

func (t *trustExchange) reports() map[mesh.GatewayID]TrustReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[mesh.GatewayID]TrustReport, len(t.peers))
	for id, p := range t.peers {
		if p.report.Held != nil {
			all[id] = p.report
		}
	}
	return all
}

func (t *trustExchange) own() TrustReport {
	root, newest := t.trust.OwnRoot()
	r := TrustReport{Held: heldBundles(t.trust), Root: root.String(), Outdated: !newest}
	if t.sidecars != nil {
		r.Behind, r.Sidecars = t.sidecars()
		r.More = max(0, len(r.Behind)-maxBehind)
		r.Behind = r.Behind[:len(r.Behind)-r.More]
	}
	return r
}

func heldBundles(s *identity.TrustStore) map[string]HeldBundle {
	held := map[string]HeldBundle{}
	for td := range s.Held() {
		held[td] = HeldBundle{}
	}
	for _, b := range s.Bundles() {
		held[b.TrustDomain] = HeldBundle{b.Number, b.Digest()}
	}
	return held
}

// run exchanges bundles with every gateway that there is a tunnel to, until ctx ends: at once
// when what is held here has changed or a tunnel is new, and every trustInterval.
func (t *trustExchange) run(ctx context.Context) {
	slots := make(chan struct{}, maxTrustExchanges)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		past := t.trust.Past()
		view, viewPast := t.view.Snapshot()
		for _, id := range t.due(view, time.Now()) {
			running.Go(func() {
				if !t.trust.Takes(id) { // its tunnel ends in a moment: it hears why before
					t.exchange(ctx, id)
					return
				}
				select {
				case slots <- struct{}{}:
					t.exchange(ctx, id)
					<-slots
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-past:
		case <-viewPast:
		case <-ticker.C:
		}
	}
}

// due returns the gateways to exchange with now, and forgets those without a tunnel.
func (t *trustExchange) due(view *View, now time.Time) (due []mesh.GatewayID) {
	held := heldBundles(t.trust)
	t.mu.Lock()
	defer t.mu.Unlock()
	up := map[mesh.GatewayID]bool{}
	for i := range view.Gateways {
		g := &view.Gateways[i]
		if g.ID == view.Self || !g.Tunnel.Up {
			continue
		}
		up[g.ID] = true
		p := t.ofLocked(g.ID)
		if !p.busy && (now.Sub(p.asked) >= trustInterval || p.mustHear(held)) {
			p.busy, p.asked = true, now
			due = append(due, g.ID)
		}
	}
	maps.DeleteFunc(t.peers, func(id mesh.GatewayID, p *trustPeer) bool { return !up[id] && !p.busy })
	return due
}

// mustHear reports whether something is held that the gateway does not have and was
// not told yet.
func (p *trustPeer) mustHear(held map[string]HeldBundle) bool {
	for td, h := range held {
		theirs, takes := p.report.Held[td]
		if takes && h.newerThan(theirs) && h.newerThan(p.told[td]) {
			return true
		}
	}
	return false
}

func (h HeldBundle) newerThan(o HeldBundle) bool {
	return h.Number > o.Number || h.Number == o.Number && h.Number > 0 && !bytes.Equal(h.Digest, o.Digest)
}

// exchange tells a gateway what is held here and hears what it holds.
func (t *trustExchange) exchange(ctx context.Context, id mesh.GatewayID) {
	body, err := json.Marshal(t.message(id))
	var theirs *trustMessage
	if err == nil {
		err = t.client.request(ctx, id, http.MethodPost, pathTrust, body, func(r *http.Response) (err error) {
			if r.StatusCode != http.StatusOK {
				return answered(r)
			}
			theirs, err = decodeTrust(r.Body, gzipped(r))
			return err
		})
	}
	if err == nil {
		err = t.hear(id, theirs)
	}
	if err != nil && ctx.Err() == nil {
		t.log.Debug("exchange bundles", "gateway", id.String(), "err", err)
	}
	t.mu.Lock()
	t.ofLocked(id).busy = false
	t.mu.Unlock()
}

// message returns what to say to a gateway: of bundles, those that it takes and, as
// far as is known, lacks.
func (t *trustExchange) message(to mesh.GatewayID) *trustMessage {
	m := &trustMessage{Report: t.own()}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.ofLocked(to)
	for _, b := range t.trust.Bundles() {
		theirs, takes := p.report.Held[b.TrustDomain]
		if h := (HeldBundle{b.Number, b.Digest()}); (takes || p.report.Held == nil) && h.newerThan(theirs) {
			p.told[b.TrustDomain] = h
			m.Bundles = append(m.Bundles, b.Bytes())
		}
	}
	return m
}

// hear takes what a gateway says: its bundles, of the trust domains that are taken
// here, because a root has signed them.
func (t *trustExchange) hear(from mesh.GatewayID, m *trustMessage) error {
	t.mu.Lock()
	t.ofLocked(from).report = m.Report
	t.mu.Unlock()
	var faults []error
	for _, raw := range m.Bundles {
		b, err := identity.ParseBundle(raw)
		if err != nil {
			return fmt.Errorf("%w: %w", errRejected, err)
		}
		if _, takes := t.trust.Held()[b.TrustDomain]; !takes {
			continue
		}
		changed, err := t.trust.Accept(raw)
		if err != nil {
			faults = append(faults, err)
			if t.notRefused(b.TrustDomain, err) && t.lines.Allow() {
				t.log.Warn("a bundle of another gateway is not taken", "gateway", from.String(), "trust_domain", b.TrustDomain, "bundle", b.Number, "err", err)
			}
		}
		if changed {
			t.log.Info("a bundle came from another gateway", "gateway", from.String(), "trust_domain", b.TrustDomain, "bundle", b.Number)
		}
	}
	return errors.Join(faults...)
}

// serve answers an exchange that another gateway has begun.
func (t *trustExchange) serve(w http.ResponseWriter, r *http.Request) {
	s, ok := tunnel.StreamFrom(r.Context())
	if !ok {
		http.Error(w, "not a stream of a tunnel", http.StatusForbidden)
		return
	}
	m, err := decodeTrust(r.Body, false)
	if err == nil {
		err = t.hear(s.Peer(), m)
	}
	if errors.Is(err, errRejected) || m == nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := compressed(func(to io.Writer) error { return json.NewEncoder(to).Encode(t.message(s.Peer())) })
	if err == nil {
		err = send(w, body)
	}
	if err != nil {
		t.log.Debug("send bundles", "err", err)
	}
}

// decodeTrust reads a message within bounds. It checks form only.
func decodeTrust(body io.Reader, gzipped bool) (*trustMessage, error) {
	var m trustMessage
	if gzipped {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		body = z
	}
	b, err := io.ReadAll(io.LimitReader(body, maxTrustBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxTrustBytes:
		return nil, fmt.Errorf("more than %d bytes", maxTrustBytes)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	if m.Report.Held == nil || len(m.Report.Held) > maxTrustDomains || len(m.Bundles) > maxTrustDomains || len(m.Report.Behind) > maxBehind {
		return nil, errors.New("a report with too much or too little in it")
	}
	return &m, nil
}
