package upstream

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Stage is how far an attempt to connect got.
type Stage string

// The stages, in order.
const (
	StageLocal     Stage = "local"     // a socket, which this machine could not give, or our own certificate, which nobody accepts
	StageConnect   Stage = "connect"   // TCP connect to the host
	StagePath      Stage = "path"      // the gateway's reply to CONNECT
	StageHandshake Stage = "handshake" // TLS with who answers
)

// ConnectError says that no connection came about. No application has seen a
// byte, so the request may always be tried elsewhere.
type ConnectError struct {
	Destination mesh.Destination // zero for a [Static] service
	Addr        string           // host:port that was dialled
	Gateway     bool             // Addr is a gateway, not an endpoint
	Stage       Stage
	Cluster     mesh.ClusterName // who was to answer, as far as it is known
	Instance    string
	Err         error // a *connect.Refusal when the gateway refused the path
}

// Error names who was dialled, for what, and what went wrong.
func (e *ConnectError) Error() string {
	host, hint := "endpoint "+e.Addr, ""
	switch {
	case e.Destination == (mesh.Destination{}):
		host = "the program at " + e.Addr
	case e.Gateway:
		host = e.Destination.String() + " by gateway " + e.Addr
	default:
		host = e.Destination.String() + " by " + host
	}
	if e.Stage == StageLocal && ourFault(e.Err) {
		return fmt.Sprintf("%s: %v", host, e.Err)
	}
	if e.Stage == StageLocal {
		return fmt.Sprintf("%s: %v: %s", host, e.Err, shortage(e.Err))
	}
	if e.Stage == StageConnect {
		hint = ": is it running, and does it listen there?"
	}
	if e.Stage == StageHandshake && e.Gateway && e.Instance != "" {
		host += fmt.Sprintf(" (instance %s/%s)", e.Cluster, e.Instance)
	}
	return fmt.Sprintf("%s: %s: %v%s", host, e.Stage, e.Err, hint)
}

// Advice says what an operator does when this machine could not connect, empty else.
func (e *ConnectError) Advice() string {
	if e.Stage != StageLocal {
		return ""
	}
	if ourFault(e.Err) {
		return e.Err.Error()
	}
	return shortage(e.Err)
}

// ourFault reports whether err says that no peer accepts our own certificate.
func ourFault(err error) bool {
	revoked, ok := errors.AsType[*identity.RevokedError](err)
	return ok && revoked.Own || errors.As(err, new(*identity.ExpiredError))
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }
