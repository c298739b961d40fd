// Package prom registers metrics.
package prom

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers all with reg, up to the first that is refused: another of its
// name is there. A nil reg is left alone: metrics are counted and nobody is shown them.
func Register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
