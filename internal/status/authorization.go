package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Authorization is what would become of a call.
type Authorization struct {
	Caller   string           `json:"caller"`
	Service  mesh.Destination `json:"service,omitzero"`
	Method   string           `json:"method,omitempty"`
	Path     string           `json:"path,omitempty"` // in its normal form, if it has one
	Decision string           `json:"decision"`       // allowed, refused, or needs_request: METHOD and PATH decide
	Cause    string           `json:"cause"`          // as isthmus_authorization_decisions_total has it
	Why      string           `json:"why"`            // the rule, and what to write where it refuses
	DryRun   string           `json:"dry_run,omitempty"`
	Where    string           `json:"where"`           // who decides: sidecar or gateway
	Note     string           `json:"note,omitempty"`  // what the decision does not hold for
	Error    string           `json:"error,omitempty"` // why there is no answer
}

// AskAuthorization asks the gateway whose admin port is at host:port what would become
// of a call. The error of the answer is returned.
func AskAuthorization(ctx context.Context, admin, caller, service, method, path string) (*Authorization, error) {
	query := url.Values{"caller": {caller}, "service": {service}, "method": {method}, "path": {path}}
	b, answered, err := request(ctx, http.MethodGet, admin, "/authz?"+query.Encode(), nil, askTimeout)
	if err != nil {
		return nil, err
	}
	a := &Authorization{}
	if err := json.Unmarshal(b, a); err != nil || a.Decision == "" && a.Error == "" {
		return nil, fmt.Errorf("%s answers %s and no decision: is it a gateway?", admin, answered)
	}
	if a.Error != "" {
		return nil, fmt.Errorf("%s", a.Error)
	}
	return a, nil
}
