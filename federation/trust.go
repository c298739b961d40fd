package federation

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
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

// trustTable is what is known of the trust of gateways with a tunnel.
type trustTable struct {
	mu      sync.Mutex
	peers   map[mesh.GatewayID]*trustPeer
	refused map[string]string // why a bundle was not taken last, by trust domain
	lines   *rate.Limiter     // of the log, about that: a gateway may invent bundles
}

// of returns the entry of a gateway, which it makes. The lock must be held.
func (t *trustTable) ofLocked(id mesh.GatewayID) *trustPeer {
	p := t.peers[id]
	if p == nil {
		p = &trustPeer{told: map[string]HeldBundle{}}
		t.peers[id] = p
	}
	return p
}

// notRefused notes why a bundle is not taken, and reports whether that is news.
func (t *trustTable) notRefused(td string, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.refused[td]
	t.refused[td] = err.Error()
	return was != err.Error()
}

// TrustReports returns what the gateways say that there are tunnels to.
func (f *Federation) TrustReports() map[mesh.GatewayID]TrustReport {
	f.trust.mu.Lock()
	defer f.trust.mu.Unlock()
	all := make(map[mesh.GatewayID]TrustReport, len(f.trust.peers))
	for id, p := range f.trust.peers {
		if p.report.Held != nil {
			all[id] = p.report
		}
	}
	return all
}

// TrustReport returns what this gateway says of itself.
func (f *Federation) TrustReport() TrustReport {
	root, newest := f.cfg.Identity.Root()
	r := TrustReport{Held: heldBundles(f.cfg.Identity), Root: root.String(), Outdated: !newest}
	if f.cfg.Sidecars != nil {
		r.Behind, r.Sidecars = f.cfg.Sidecars()
		r.More = max(0, len(r.Behind)-maxBehind)
		r.Behind = r.Behind[:len(r.Behind)-r.More]
	}
	return r
}

func heldBundles(s *identity.Source) map[string]HeldBundle {
	held := map[string]HeldBundle{}
	for td := range s.Held() {
		held[td] = HeldBundle{}
	}
	for _, b := range s.Bundles() {
		held[b.TrustDomain] = HeldBundle{b.Number, b.Digest()}
	}
	return held
}

// trustLoop exchanges bundles with every gateway that there is a tunnel to: at once when
// what is held here has changed or a tunnel is new, and every trustInterval. It also
// drops the catalogs whose signers are trusted no more.
func (f *Federation) trustLoop(ctx context.Context) {
	slots := make(chan struct{}, maxTrustExchanges)
	t := time.NewTicker(tick)
	defer t.Stop()
	past := f.cfg.Identity.Past()
	f.judgeOrigins()
	for {
		view, viewPast := f.view.Snapshot()
		for _, id := range f.dueTrust(view, time.Now()) {
			f.running.Go(func() {
				if !f.cfg.Identity.Takes(id) { // its tunnel ends in a moment: it hears why before
					f.exchangeTrust(ctx, id)
					return
				}
				select {
				case slots <- struct{}{}:
					f.exchangeTrust(ctx, id)
					<-slots
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-past:
			past = f.cfg.Identity.Past() // before the judgement
			f.judgeOrigins()
		case <-viewPast:
		case <-t.C:
		}
	}
}

// dueTrust returns the gateways to exchange with now, and forgets those without a tunnel.
func (f *Federation) dueTrust(view *View, now time.Time) (due []mesh.GatewayID) {
	held := heldBundles(f.cfg.Identity)
	f.trust.mu.Lock()
	defer f.trust.mu.Unlock()
	up := map[mesh.GatewayID]bool{}
	for i := range view.Gateways {
		g := &view.Gateways[i]
		if g.ID == view.Self || !g.Tunnel.Up {
			continue
		}
		up[g.ID] = true
		p := f.trust.ofLocked(g.ID)
		if !p.busy && (now.Sub(p.asked) >= trustInterval || p.mustHear(held)) {
			p.busy, p.asked = true, now
			due = append(due, g.ID)
		}
	}
	maps.DeleteFunc(f.trust.peers, func(id mesh.GatewayID, p *trustPeer) bool { return !up[id] && !p.busy })
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

// exchangeTrust tells a gateway what is held here and hears what it holds.
func (f *Federation) exchangeTrust(ctx context.Context, id mesh.GatewayID) {
	body, err := json.Marshal(f.trustMessage(id))
	var theirs *trustMessage
	if err == nil {
		err = f.client.request(ctx, id, http.MethodPost, pathTrust, body, func(r *http.Response) (err error) {
			if r.StatusCode != http.StatusOK {
				return answered(r)
			}
			theirs, err = decodeTrust(r.Body, gzipped(r))
			return err
		})
	}
	if err == nil {
		err = f.hearTrust(id, theirs)
	}
	if err != nil && ctx.Err() == nil {
		f.log.Debug("exchange bundles", "gateway", id.String(), "err", err)
	}
	f.trust.mu.Lock()
	f.trust.ofLocked(id).busy = false
	f.trust.mu.Unlock()
}

// trustMessage returns what to say to a gateway: of bundles, those that it takes and, as
// far as is known, lacks.
func (f *Federation) trustMessage(to mesh.GatewayID) *trustMessage {
	m := &trustMessage{Report: f.TrustReport()}
	f.trust.mu.Lock()
	defer f.trust.mu.Unlock()
	p := f.trust.ofLocked(to)
	for _, b := range f.cfg.Identity.Bundles() {
		theirs, takes := p.report.Held[b.TrustDomain]
		if h := (HeldBundle{b.Number, b.Digest()}); (takes || p.report.Held == nil) && h.newerThan(theirs) {
			p.told[b.TrustDomain] = h
			m.Bundles = append(m.Bundles, b.Bytes())
		}
	}
	return m
}

// hearTrust takes what a gateway says: its bundles, of the trust domains that are taken
// here, because a root has signed them.
func (f *Federation) hearTrust(from mesh.GatewayID, m *trustMessage) error {
	f.trust.mu.Lock()
	f.trust.ofLocked(from).report = m.Report
	f.trust.mu.Unlock()
	var faults []error
	for _, raw := range m.Bundles {
		b, err := identity.ParseBundle(raw)
		if err != nil {
			return fmt.Errorf("%w: %w", errRejected, err)
		}
		if _, takes := f.cfg.Identity.Held()[b.TrustDomain]; !takes {
			continue
		}
		changed, err := f.cfg.Identity.Accept(raw)
		if err != nil {
			faults = append(faults, err)
			if f.trust.notRefused(b.TrustDomain, err) && f.trust.lines.Allow() {
				f.log.Warn("a bundle of another gateway is not taken", "gateway", from.String(), "trust_domain", b.TrustDomain, "bundle", b.Number, "err", err)
			}
		}
		if changed {
			f.log.Info("a bundle came from another gateway", "gateway", from.String(), "trust_domain", b.TrustDomain, "bundle", b.Number)
		}
	}
	return errors.Join(faults...)
}

// serveTrust answers an exchange that another gateway has begun.
func (f *Federation) serveTrust(w http.ResponseWriter, r *http.Request) {
	s, ok := tunnel.StreamFrom(r.Context())
	if !ok {
		http.Error(w, "not a stream of a tunnel", http.StatusForbidden)
		return
	}
	m, err := decodeTrust(r.Body, false)
	if err == nil {
		err = f.hearTrust(s.Peer(), m)
	}
	if errors.Is(err, errRejected) || m == nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := compressed(func(to io.Writer) error { return json.NewEncoder(to).Encode(f.trustMessage(s.Peer())) })
	if err == nil {
		err = send(w, body)
	}
	if err != nil {
		f.log.Debug("send bundles", "err", err)
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

// judgeOrigins drops the catalogs whose signers are trusted no more.
func (f *Federation) judgeOrigins() {
	f.mu.Lock()
	held := f.core.Signatures()
	f.mu.Unlock()
	var out core.Distrusted
	for id, sig := range held {
		if err := f.cfg.Identity.TrustsSigner(sig); err != nil {
			f.log.Warn("the catalog of a gateway is dropped: its signer is trusted no more", "gateway", id.String(), "err", err)
			out.Gateways = append(out.Gateways, id)
		}
	}
	if len(out.Gateways) > 0 {
		slices.SortFunc(out.Gateways, mesh.GatewayID.Compare)
		f.apply(out)
	}
}
