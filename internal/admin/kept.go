package admin

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// KeptFile is a file of the state directory and whether it holds what is known.
type KeptFile struct {
	Name string
	Err  func() error // why it does not; nil: it does
}

// KeptError says which files do not hold what is known, and why; empty: all do.
func KeptError(files []KeptFile) string {
	var errs []error
	for _, k := range files {
		if err := k.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

// RegisterKept registers isthmus_state_kept of files.
func RegisterKept(r prometheus.Registerer, files []KeptFile) error {
	for _, k := range files {
		err := r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "isthmus_state_kept", Help: "1 while the file of the state directory holds what is known, 0 while it cannot be written.",
			ConstLabels: prometheus.Labels{"file": k.Name},
		}, func() float64 {
			if k.Err() != nil {
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
