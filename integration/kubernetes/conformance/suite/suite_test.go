// Package suite is Gateway API's own conformance suite, as a test binary: ../gateway runs it.
package suite

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) { conformance.RunConformance(t) }
