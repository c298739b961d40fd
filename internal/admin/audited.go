package admin

import (
	"fmt"
	"net/http"

	"github.com/isthmus-mesh/isthmus/internal/audit"
)

// audited tells the audit stream what was asked for that changes something, and what
// was refused for the name that it was asked by. Reading is nobody's secret here.
func audited(log *audit.Log, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(a, r)
		refused := a.code == http.StatusMisdirectedRequest || a.code == http.StatusForbidden
		if r.Method == http.MethodGet && !refused {
			return
		}
		e := audit.Event{Kind: audit.Admin, Decision: audit.Granted, From: hostOf(r.RemoteAddr), What: r.Method + " " + r.URL.RequestURI()}
		if a.code >= http.StatusBadRequest {
			e.Decision, e.Why = audit.Refused, fmt.Sprintf("%d %s, Host %q", a.code, http.StatusText(a.code), r.Host)
		}
		log.Add(e)
	})
}

// answer remembers the code of an answer.
type answer struct {
	http.ResponseWriter
	code int
}

func (a *answer) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
