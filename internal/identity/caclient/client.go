package caclient

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Config says whom a [Client] asks and where it keeps what it gets.
type Config struct {
	Addresses []string                                                    // of the cluster's CAs, host:port; tried in turn
	TokenFile string                                                      // read whenever there is no valid certificate
	First     func() (identity.FirstTrust, error)                         // the token is a service account's, and these CAs take it; nil: it is one of 'isthmus pki token'
	StateFile string                                                      // key, certificate and roots; empty: kept in memory only
	Accept    func(identity.ID) error                                     // says why an identity is not this process's
	Command   string                                                      // what makes a token for this process
	IstioName bool                                                        // ask for a workload's name in Istio besides
	Dial      func(ctx context.Context, address string) (net.Conn, error) // nil: TCP
	Log       *slog.Logger                                                // nil discards
}

// Client gets this process's certificates. Its methods are called by one goroutine at a
// time: Source until it succeeds, then by the source's Run.
type Client struct {
	cfg     Config
	last    int           // index of the address that answered last: the first to be asked
	pending crypto.Signer // key of a token that may be used up already; nil: of none
	lost    string        // why the last material is not on disk, for the log to say once
}

// New returns a client that has asked nobody yet.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	return &Client{cfg: cfg}
}

// Source makes one attempt to become somebody: by the certificate on disk, else by the
// token. The source that it returns renews itself.
func (c *Client) Source(ctx context.Context) (*identity.Source, error) {
	m, err := c.stored()
	if err != nil {
		return nil, err
	}
	if len(m.Chain) > 0 {
		s, err := identity.New(m, c.origin())
		if err == nil {
			err = c.mayBe(s.ID())
		}
		if err == nil {
			return s, nil
		}
		c.cfg.Log.Warn("the certificate in the state directory is of no use: a token is needed", "file", c.cfg.StateFile, "err", err)
	}
	if m, err = c.enroll(ctx, nil); err != nil {
		return nil, err
	}
	return identity.New(m, c.origin())
}

// Check says why Source would get nothing: there is no certificate on disk, and no token
// that is good by the clock here.
func (c *Client) Check() (*identity.Source, error) {
	m, err := c.stored()
	if err != nil {
		return nil, err
	}
	if len(m.Chain) > 0 {
		if s, err := identity.New(m, c.origin()); err == nil && c.mayBe(s.ID()) == nil {
			return s, nil
		}
	}
	p, err := c.proof()
	if err == nil && !time.Now().Before(p.ends) {
		err = fmt.Errorf("%s: it ended at %s: %s", c.cfg.TokenFile, p.ends.UTC().Format(time.RFC3339), c.another())
	}
	return nil, err
}

func (c *Client) origin() identity.Origin {
	return identity.Origin{
		Follow: c.follow,
		Renew:  fmt.Sprintf("its CA (%s) has not renewed it; once it has expired, a new token is needed: %s", strings.Join(c.cfg.Addresses, ", "), c.another()),
	}
}

// stored reads the state file; without one it returns nothing.
func (c *Client) stored() (identity.Material, error) {
	if c.cfg.StateFile == "" {
		return identity.Material{}, nil
	}
	m, err := identity.LoadMaterial(c.cfg.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return identity.Material{}, nil
	}
	if err == nil && len(m.Chain) == 0 {
		c.pending = m.Key
	}
	return m, err
}

// mayBe says why a stored identity is not this process's: the configuration says so, or a
// token that is there.
func (c *Client) mayBe(id identity.ID) error {
	if err := c.cfg.Accept(id); err != nil {
		return err
	}
	if p, err := c.proof(); err == nil {
		if err := p.makes(id); err != nil {
			return fmt.Errorf("%w (token in %s)", err, c.cfg.TokenFile)
		}
	}
	return nil
}

// save keeps the material on disk. A failure costs a new token at the next restart, and
// nothing now.
func (c *Client) save(m identity.Material) {
	if c.cfg.StateFile == "" {
		return
	}
	err := identity.SaveMaterial(c.cfg.StateFile, m)
	if err == nil {
		c.lost = ""
	} else if err.Error() != c.lost {
		c.lost = err.Error()
		c.cfg.Log.Error("the certificate is not kept on disk: a restart will need a new token", "err", err)
	}
}
