// Package probes asks the programs of a pod what the kubelet asks its sidecar: whether they live
// and are ready, and what is to be called before they end. The kubelet would come from an address
// of the node, as a stranger who calls a NodePort does, and no packet says which of them it is. So
// the injection has it ask the sidecar, and nobody else passes for it.
//
// A probe is at PATH/CONTAINER/PROBE, such as /probes/web/livenessProbe. It is one of those
// that the configuration names and no other, so that a stranger who calls it learns no more
// than whether the program is well. Its answer is the program's status without its body.
package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

const (
	// maxAsked and maxOfSource bound the probes that are asked at a time, in all and for one
	// caller, in whose place others do not wait.
	maxAsked    = 64
	maxOfSource = 16
	// maxDuration bounds one. The kubelet hangs up earlier, as the probe's timeoutSeconds says.
	maxDuration = 10 * time.Minute
	// maxRedirects is how many the kubelet follows.
	maxRedirects = 10
	// maxHead bounds the head of a program's answer, in bytes.
	maxHead = 64 << 10
)

// Handler answers for probes. It is safe for concurrent use.
type Handler struct {
	probes map[string]config.Probe // by path
	places *limit.Places[limit.Source]
	log    *slog.Logger
}

// New returns what answers for probes; nil: there are none. A nil log discards.
func New(all []config.Probe, log *slog.Logger) http.Handler {
	if len(all) == 0 {
		return nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{probes: make(map[string]config.Probe, len(all)), places: limit.NewPlaces[limit.Source](maxAsked, maxOfSource), log: log}
	for _, p := range all {
		h.probes[config.ProbesPath+p.Name] = p
	}
	return h
}

// ServeHTTP asks the program at the address that the kubelet has called, the pod's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, ok := h.probes[r.URL.Path]
	here, isTCP := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if !ok || !isTCP || err != nil {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxDuration)
	defer cancel()
	giveBack, ok := h.places.Take(ctx, limit.SourceOf(net.TCPAddrFromAddrPort(from)))
	if !ok {
		return
	}
	defer giveBack()
	at := net.JoinHostPort(here.IP.String(), strconv.Itoa(int(p.Port)))
	code, err := h.ask(ctx, p, at, r)
	if err != nil {
		h.log.Debug("a program does not answer a probe", "probe", p.Name, "addr", at, "err", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(code)
}

// ask returns the program's status; of what is no HTTP, 200.
func (h *Handler) ask(ctx context.Context, p config.Probe, at string, r *http.Request) (int, error) {
	switch p.Scheme {
	case config.ProbeTCP:
		return http.StatusOK, health.Check{Kind: health.TCP, Timeout: maxDuration}.Probe(ctx, at)
	case config.ProbeGRPC:
		return http.StatusOK, health.Check{Kind: health.GRPC, Service: p.Path, Timeout: maxDuration}.Probe(ctx, at)
	}
	return get(ctx, p, at, r)
}

// get makes the kubelet's request as that would have come to the program: with its fields, a new
// connection, any certificate, and redirects followed within the host.
func get(ctx context.Context, p config.Probe, at string, r *http.Request) (int, error) {
	to, err := http.NewRequestWithContext(ctx, http.MethodGet, string(p.Scheme)+"://"+at+p.Path, nil)
	if err != nil {
		return 0, fmt.Errorf("GET %s: %w", p.Path, err)
	}
	to.Header = r.Header.Clone()
	for _, hop := range []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection"} {
		to.Header.Del(hop)
	}
	if _, ok := to.Header["User-Agent"]; !ok {
		to.Header.Set("User-Agent", "") // none of Go's
	}
	if host, _, err := net.SplitHostPort(r.Host); r.Host != "" && (err != nil || net.ParseIP(host) == nil) {
		to.Host = r.Host // one that the probe names: else it is our address
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHead,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as the kubelet does: the program is on this host
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= maxRedirects {
				return errors.New("too many redirects")
			}
			return nil
		},
	}
	answer, err := client.Do(to)
	if err != nil {
		return 0, err
	}
	_ = answer.Body.Close()
	if answer.StatusCode >= 300 && answer.StatusCode < 400 { // a success, which nobody is to follow
		return http.StatusOK, nil
	}
	return answer.StatusCode, nil
}
