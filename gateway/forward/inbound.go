package forward

import (
	"context"
	"net/http"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// ServeTunnel serves a CONNECT that came on a tunnel stream, by
// [net/http.Server]. It returns when the path has ended.
func (f *Forward) ServeTunnel(w http.ResponseWriter, r *http.Request) {
	if !f.enter() {
		panic(http.ErrAbortHandler)
	}
	defer f.running.Done()
	p := &path{f: f, dir: inbound}
	req, refusal := connect.RequestOf(r)
	if refusal == nil {
		p.req.Request = *req
		refusal = p.req.Pass(f.cfg.Self)
	}
	raw, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		f.cfg.Log.Error("serve a path by HTTP/1.1 only", "err", err)
		panic(http.ErrAbortHandler)
	}
	conn, ok := raw.(relay.Conn)
	if !ok {
		_ = raw.Close()
		f.cfg.Log.Error("serve a path on a stream with half-close only", "peer_addr", r.RemoteAddr)
		return
	}
	p.conn = conn
	unhook := context.AfterFunc(f.base, func() { relay.Abort(conn) }) //nolint:contextcheck // r's context ends with this call
	defer unhook()
	if refusal != nil {
		p.refuse(refusal)
		return
	}
	guest := f.limits.receive(clusterOf(conn), func() { relay.Abort(conn) })
	if guest == nil {
		p.refuse(f.overLimit())
		return
	}
	defer guest.leave()
	p.proved = guest.proved
	payload, _ := buffered.Peek(buffered.Reader.Buffered()) // cannot fail: it is all there
	p.serve(append([]byte(nil), payload...))                //nolint:contextcheck // as above
}

// clusterOf returns whose gateway opened a tunnel stream.
func clusterOf(stream relay.Conn) mesh.ClusterName {
	if s, ok := stream.(interface{ Peer() mesh.GatewayID }); ok {
		return s.Peer().Cluster
	}
	return "unknown" // no tunnel's
}
