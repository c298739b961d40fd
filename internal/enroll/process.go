package enroll

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/caclient"
	"github.com/isthmus-mesh/isthmus/internal/identity/workloadapi"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// The pauses between attempts to become somebody.
const (
	minPause = 250 * time.Millisecond
	maxPause = 15 * time.Second

	agentTimeout = 2 * time.Second // of the look whether an agent listens
)

// Process is who wants an identity.
type Process struct {
	Identity config.Identity
	Role     config.Role
	State    string                  // state directory
	Accept   func(identity.ID) error // says why an identity is not this process's
	Name     string                  // such as "gateway west/west-1"
	TokenFor string                  // as isthmus pki token takes it, such as "--gateway west-1"
	Make     string                  // the command that writes a directory of files
	Path     string                  // of the SPIFFE ID, for who registers it elsewhere
	Log      *slog.Logger            // nil discards
}

// Open returns the identity of p, and waits until there is one or ctx ends. ports binds
// the admin ports of a process that waits; they are closed when Open returns. What is
// wrong with files is an error, since nobody is to bring others.
func Open(ctx context.Context, p Process, ports func() (admin.Ports, error)) (s *identity.Source, err error) {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	attempt, fromCA := p.attempt()
	if attempt == nil {
		return Files(p)
	}
	if fromCA {
		release, err := config.ClaimState(p.State, p.Role) // for its file is written
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	w := newWaitingRoom(p, ports)
	defer w.close()
	pause := state.Backoff{Min: minPause, Max: maxPause}
	for {
		s, err := attempt(ctx)
		switch {
		case err == nil:
			p.Log.Info("identity obtained", "id", s.ID().String(), "not_after", s.NotAfter())
			return s, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		w.say(ctx, err)
		if !state.Pause(ctx, pause.Next()) {
			return nil, ctx.Err()
		}
	}
}

// Check says what is wrong with what the configuration names, without waiting for
// anybody: a [*config.KeyError]. The source, which is not to be run, is nil where there is
// nothing on disk yet.
func Check(p Process) (*identity.Source, error) {
	switch {
	case p.Identity.Dir != "":
		return Files(p)
	case len(p.Identity.CA) > 0:
		if first := p.firstTrust(); first != nil {
			if _, err := first(); err != nil {
				key := "identity.roots"
				if p.Identity.Roots == "" {
					key = "identity.fingerprint"
				}
				return nil, &config.KeyError{Key: key, Problem: err.Error()}
			}
		}
		s, err := p.ca().Check()
		if err != nil {
			return nil, &config.KeyError{Key: "identity.token", Problem: err.Error()}
		}
		return s, nil
	}
	return nil, p.checkAgent()
}

// checkAgent says why nobody answers at the socket of the Workload API; nil: it is not the
// origin.
func (p Process) checkAgent() error {
	path, ok := strings.CutPrefix(p.Identity.WorkloadAPI, "unix://")
	if !ok {
		return nil // told by the configuration
	}
	d := net.Dialer{Timeout: agentTimeout}
	conn, err := d.DialContext(context.Background(), "unix", path)
	if err != nil {
		return &config.KeyError{Key: "identity.workloadAPI", Problem: fmt.Sprintf("no agent listens at %s (%v): start it, let this user write to its socket, or write where it listens", path, cause(err))}
	}
	_ = conn.Close() // nothing was said
	return nil
}

// cause strips the address that net's errors repeat.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func (p Process) attempt() (attempt func(context.Context) (*identity.Source, error), fromCA bool) {
	switch {
	case len(p.Identity.CA) > 0:
		return p.ca().Source, true
	case p.Identity.WorkloadAPI != "":
		agent := &workloadapi.Client{
			Address: p.Identity.WorkloadAPI, Accept: p.Accept, Register: "spiffe://TRUST-DOMAIN" + p.Path,
		}
		return agent.Source, false
	}
	return nil, false
}

func (p Process) ca() *caclient.Client {
	return caclient.New(caclient.Config{
		Addresses: p.Identity.CA, TokenFile: p.Identity.Token, First: p.firstTrust(), StateFile: p.stateFile(), Accept: p.Accept, IstioName: p.Identity.IstioName,
		Command: fmt.Sprintf("isthmus pki token -c ca.yaml %s -o %s", p.TokenFor, p.Identity.Token), Log: p.Log,
	})
}

// firstTrust returns how it is found out which CAs are shown the token of a service account;
// nil: the token is none.
func (p Process) firstTrust() func() (identity.FirstTrust, error) {
	if len(p.Identity.Fingerprint) == 0 && p.Identity.Roots == "" {
		return nil
	}
	return func() (identity.FirstTrust, error) {
		return identity.NewFirstTrust(p.Identity.Cluster, p.Identity.Fingerprint, p.Identity.Roots)
	}
}

// stateFile is where key and certificate of a CA are kept; a gateway and a sidecar may
// share the directory.
func (p Process) stateFile() string {
	return filepath.Join(p.State, string(p.Role)+"-identity.pem")
}

// Files is Open for an identity that is in files.
func Files(p Process) (*identity.Source, error) {
	refuse := func(err error) (*identity.Source, error) {
		return nil, &config.KeyError{Key: "identity.dir", Problem: err.Error()}
	}
	s, err := identity.Open(p.Identity.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; or write identity: {ca: [HOST:15010], token: FILE} to have it from the cluster's CA, or identity: {workloadAPI: unix:///SOCKET} from an agent", err)
	}
	if err != nil {
		return refuse(err)
	}
	if err := p.Accept(s.ID()); err != nil {
		return refuse(fmt.Errorf("the certificate is not this process's: %w; or make one with %s", err, p.Make))
	}
	return s, nil
}
