package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ReloadTimeout bounds one reload of a configuration, on both ends.
const ReloadTimeout = 15 * time.Second

// Reload is the verdict on one reload of a process's configuration.
type Reload struct {
	At time.Time `json:"at"`
	// Error is why nothing has changed; empty when the file is in force, but for
	// Restart.
	Error   string   `json:"error,omitempty"`
	Changed []string `json:"changed,omitempty"` // keys whose new values are in force
	Restart []string `json:"restart,omitempty"` // keys that differ in the file, which needs a restart
}

// OK reports whether everything that the file says is in force.
func (r *Reload) OK() bool { return r.Error == "" && len(r.Restart) == 0 }

// String is the verdict in one line.
func (r *Reload) String() string {
	if r.Error != "" {
		return "not reloaded, the old configuration stays in force: " + strings.ReplaceAll(r.Error, "\n", "; ")
	}
	said := "reloaded: nothing has changed"
	if len(r.Changed) > 0 {
		said = "reloaded: " + strings.Join(r.Changed, ", ")
	}
	if len(r.Restart) > 0 {
		said += "; these keys wait for a restart: " + strings.Join(r.Restart, ", ")
	}
	return said
}

// AskReload has the process whose admin port is at host:port reload its
// configuration, and returns its verdict.
func AskReload(ctx context.Context, admin string) (*Reload, error) {
	b, answered, err := request(ctx, http.MethodPost, admin, "/reload", nil, ReloadTimeout+askTimeout)
	if err != nil {
		return nil, err
	}
	r := &Reload{}
	if err := json.Unmarshal(b, r); err != nil || r.At.IsZero() {
		return nil, fmt.Errorf("%s answers %s and no verdict: is it a version that cannot reload?", admin, answered)
	}
	return r, nil
}
