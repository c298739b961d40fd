package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// fromHere refuses what a browser on this host sends for a page from elsewhere: a
// request that names another host than this one (a foreign name that resolves to
// 127.0.0.1, DNS rebinding), and one that changes something and comes from another
// origin. An address is no name that could be made to lead here.
func fromHere(next http.Handler) http.Handler {
	own, _ := os.Hostname() // without a name, there is none to be called by
	sameOrigin := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostOf(r.Host); !isHere(host, own) {
			http.Error(w, fmt.Sprintf("this port answers to localhost, to addresses, and to this host's name, not to %q", host), http.StatusMisdirectedRequest)
			return
		}
		sameOrigin.ServeHTTP(w, r)
	})
}

// hostOf returns the host of a Host header.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
}

func isHere(host, own string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	return strings.EqualFold(host, "localhost") || own != "" && strings.EqualFold(host, own)
}
