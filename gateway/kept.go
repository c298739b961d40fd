package gateway

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// kept is a file of the state directory and whether it holds what is known.
type kept struct {
	file string
	err  func() error // why it does not; nil: it does
}

// kept are the files that parts keep, none without a state directory.
func (g *Gateway) kept() []kept {
	if g.cfg.State == "" {
		return nil
	}
	return []kept{
		{federationFile, g.federation.StateErr},
		{registrationsFile, g.registered.StateErr},
		{scopesFile, g.xds.StateErr},
	}
}

// stateError says which files do not hold what is known, and why; empty: all do.
func stateError(files []kept) string {
	var errs []error
	for _, k := range files {
		if err := k.err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.file, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

// registerKept registers the metric of kept.
func registerKept(r prometheus.Registerer, files []kept) error {
	for _, k := range files {
		err := r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_state_kept", Help: "1 while the file of the state directory holds what is known, 0 while it cannot be written.",
			ConstLabels: prometheus.Labels{"file": k.file},
		}, func() float64 {
			if k.err() != nil {
				return 0
			}
			return 1
		}))
		if err != nil {
			return fmt.Errorf("register metrics of the state directory: %w", err)
		}
	}
	return nil
}
