package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ForgetTimeout bounds how long a gateway takes to have the others forget.
const ForgetTimeout = 15 * time.Second

// Forget is what a gateway answers to being told that a cluster or a gateway is gone
// for good.
type Forget struct {
	Name      string             `json:"name"` // as it was asked
	Self      mesh.GatewayID     `json:"self"` // who answers
	Forgotten []mesh.GatewayID   `json:"forgotten"`
	Elsewhere []mesh.ClusterName `json:"elsewhere,omitempty"` // clusters that were not asked: they take it from nobody here
	Error     string             `json:"error,omitempty"`     // why nothing was forgotten, or by whom it was not
}

// AskForget has the gateway whose admin port is at host:port, and through it those of
// its cluster, forget a cluster or a gateway.
func AskForget(ctx context.Context, admin, name string) (*Forget, error) {
	b, answered, err := request(ctx, http.MethodPost, admin, "/forget?"+url.Values{"name": {name}}.Encode(), nil, ForgetTimeout+askTimeout)
	if err != nil {
		return nil, err
	}
	f := &Forget{}
	if err := json.Unmarshal(b, f); err != nil || f.Name != name {
		return nil, fmt.Errorf("%s answers %s and no verdict: is it a gateway, of a version that can forget?", admin, answered)
	}
	return f, nil
}
