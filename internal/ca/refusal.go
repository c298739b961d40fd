package ca

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reason is why somebody gets no certificate, as the metrics count it.
type reason string

// The reasons.
const (
	badCertificate reason = "certificate" // its own is not valid, or not of this cluster
	nobody         reason = "nobody"      // neither certificate nor token
	badToken       reason = "token"       // forged, ended, for another CA
	usedToken      reason = "used_token"  // another key has used it
	badCSR         reason = "csr"
	otherName      reason = "name" // the request names somebody else
	tooOften       reason = "rate"
	unable         reason = "unable" // the fault is the CA's
)

var reasons = []reason{badCertificate, nobody, badToken, usedToken, badCSR, otherName, tooOften, unable}

// refusal is the answer to who gets no certificate. The codes are what clients go by:
// Unauthenticated needs another token or certificate, FailedPrecondition and Unavailable
// another CA, ResourceExhausted time.
type refusal struct {
	code   codes.Code
	reason reason
	err    error
	untold error // what only the log says; nil: nothing
}

func refuse(code codes.Code, why reason, format string, args ...any) *refusal {
	return &refusal{code: code, reason: why, err: fmt.Errorf(format, args...)}
}

// status returns the refusal as gRPC sends it. What the caller wrote is quoted in it.
func (r *refusal) status() error { return status.Error(r.code, r.err.Error()) }
