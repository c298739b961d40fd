package federation

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// GossipAuthority is the target of the CONNECT that asks for a gateway's
// memberlist instead of a service, and the host of every other request.
const GossipAuthority = "gossip"

const (
	pathCatalog = "/catalog"
	pathForget  = "/forget"
	pathTrust   = "/trust"
)

// Handler serves the other gateways: "GET /catalog", "POST /forget", "POST /trust" and "CONNECT
// gossip". Every answer is for a peer that the tunnel has authenticated
// as a gateway: it must be served on the tunnel's listener and nowhere else, with
// [tunnel.ConnContext] as the server's ConnContext.
func (f *Federation) Handler() http.Handler {
	streams := gossipStreams{peers: map[mesh.GatewayID]int{}}
	answers := newAnswers()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-f.opened: // before, we do not know what we know
		case <-f.ended:
			http.Error(w, "the gateway stops", http.StatusServiceUnavailable)
			return
		case <-r.Context().Done():
			return
		}
		switch {
		case r.Method == http.MethodConnect && r.Host == GossipAuthority:
			s, ok := tunnel.StreamFrom(r.Context())
			if !ok || !streams.start(s.Peer()) {
				http.Error(w, "too many gossip streams", http.StatusServiceUnavailable)
				return
			}
			defer streams.end(s.Peer())
			f.transport.serveGossip(w, r, s.Peer())
		case r.Method == http.MethodGet && r.URL.Path == pathCatalog:
			s, ok := tunnel.StreamFrom(r.Context())
			var end func()
			if ok {
				end, ok = answers.turn(r.Context(), s.Peer().Cluster)
			}
			if !ok {
				http.Error(w, "too many of your cluster ask for catalogs", http.StatusServiceUnavailable)
				return
			}
			defer end()
			f.serveCatalog(w, r, answers, s.Peer())
		case r.Method == http.MethodPost && r.URL.Path == pathForget:
			f.serveForget(w, r)
		case r.Method == http.MethodPost && r.URL.Path == pathTrust:
			f.trust.serve(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// serveCatalog lists the heads held, or gives one origin's changes since a version.
func (f *Federation) serveCatalog(w http.ResponseWriter, r *http.Request, answers *answers, peer mesh.GatewayID) {
	q := r.URL.Query()
	if !q.Has("origin") {
		body, err := compressed(f.heads().write)
		if err == nil {
			err = send(w, body)
		}
		if err != nil {
			f.log.Debug("list catalogs", "err", err)
		}
		return
	}
	id, err := mesh.ParseGatewayID(q.Get("origin"))
	epoch, err1 := strconv.ParseUint(q.Get("epoch"), 10, 64)
	since, err2 := strconv.ParseUint(q.Get("since"), 10, 64)
	if err := errors.Join(err, err1, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	state, sig := f.held(id)
	if state == nil {
		http.Error(w, "nothing of this origin is held", http.StatusNotFound)
		return
	}
	d := state.Delta(catalog.Version{Epoch: epoch, Seq: since})
	if d == nil {
		w.WriteHeader(http.StatusNoContent)
	} else {
		body, err := answers.body(signedDelta{d, sig})
		if err == nil {
			err = send(w, body)
		}
		if err != nil {
			f.log.Debug("send catalog", "err", err)
			return
		}
	}
	if id == f.cfg.Self {
		f.core.apply(core.Acked{Gateway: peer, Version: state.Head().Version})
	}
}

// heads lists what this gateway holds.
func (f *Federation) heads() versionList {
	l := versionList{MeshAddress: f.cfg.MeshAddress}
	f.core.with(func(c *core.Core) { l.Origins, l.Advertise = c.Heads(), c.Meta().Advertise })
	return l
}

// held returns what is held of an origin; nil: nothing, or it has said nothing yet.
func (f *Federation) held(id mesh.GatewayID) (s *catalog.State, sig identity.Signature) {
	f.core.with(func(c *core.Core) { s, sig = c.Held(id) })
	return s, sig
}
