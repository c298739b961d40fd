package ca

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// open reads the cluster's intermediate and makes this process's own certificate with it.
func open(cfg *config.CA) (*identity.Authority, *identity.Credential, error) {
	a, err := identity.OpenAuthority(cfg.Authority)
	if err != nil {
		return nil, nil, &config.KeyError{Key: "authority", Problem: err.Error()}
	}
	own, err := a.IssueCA(cfg.Name, cfg.DNSNames)
	if err != nil {
		return nil, nil, &config.KeyError{Key: "authority", Problem: err.Error()}
	}
	return a, own, nil
}

// follow uses another intermediate of the cluster as soon as its files are there, until
// ctx ends. Files are written one after the other: what is wrong is said when it still
// is at the next look.
func (ca *CA) follow(ctx context.Context, s *identity.Source) {
	look := time.NewTicker(followEvery)
	defer look.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	var before error
	for {
		select {
		case <-ctx.Done():
			return
		case <-tidy.C:
			ca.used.tidy(time.Now())
		case <-look.C:
			err := ca.takeAuthority(s)
			switch {
			case err == nil:
				s.Fine()
			case before != nil:
				s.Fail(fmt.Errorf("the files of the authority are bad: %w", err))
			}
			before = err
		}
	}
}

// takeAuthority reads the files of the authority and uses them when they are others.
func (ca *CA) takeAuthority(s *identity.Source) error {
	a, own, err := open(ca.cfg)
	if err != nil {
		return err
	}
	if ca.authority.Load().Same(a) {
		return nil
	}
	if err := s.Replace(own.Material()); err != nil { // refuses another cluster's
		return err
	}
	ca.authority.Store(a)
	ca.log.Info("another intermediate is in use", "fingerprint", a.Fingerprint(), "not_after", a.NotAfter())
	return nil
}
