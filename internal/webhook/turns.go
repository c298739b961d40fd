package webhook

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// takeTurn waits until a question may be answered; false: it may not. Who asks is not known,
// and a body may come slowly, so an address has few turns. Who may gives it back.
func (w *Webhook) takeTurn(r *http.Request) (giveBack func(), ok bool) {
	var from limit.Source
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from = limit.SourceOf(net.TCPAddrFromAddrPort(at))
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewPatience)
	defer cancel()
	return w.turns.Take(ctx, from)
}
