package hooks

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Stats count what the hooks did since they were attached. A sidecar that comes
// back finds them as they are.
type Stats struct {
	Captured       uint64 // connections sent to the sidecar
	DNS            uint64 // DNS connections and datagrams sent to the sidecar
	Refused        uint64 // refused: no sidecar, closed
	Passed         uint64 // let by: no sidecar, open
	UDPRefused     uint64 // UDP to a captured address
	OtherNamespace uint64 // of Refused and Passed: from another network namespace
	BoundToDevice  uint64 // of Refused and Passed: by sockets that are bound to a device
	Steered        uint64 // inbound connections sent to the sidecar
	OwnDials       uint64 // the sidecar's connections to the program
	InboundRefused uint64 // inbound refused: no sidecar, closed
	InboundPassed  uint64 // inbound let by: no sidecar, open

	Accelerated uint64 // connections whose messages may be redirected
	Redirected  uint64 // messages on them that were
	ByTCP       uint64 // messages on them that TCP carried
}

// Stats reads the counters.
func (h *Handle) Stats() (Stats, error) {
	var s Stats
	for _, c := range s.fields() {
		var perCPU []uint64
		if err := h.counters.Lookup(uint32(c.counter), &perCPU); err != nil {
			return Stats{}, fmt.Errorf("read counters of interception %s: %w", h.name, err)
		}
		for _, n := range perCPU {
			*c.value += n
		}
	}
	return s, nil
}

// field ties a counter of the hooks to its place in Stats and in the metrics.
type field struct {
	counter bpf.KernelCounter
	value   *uint64
	metric  *prometheus.Desc
	labels  []string
}

func (s *Stats) fields() []field {
	return []field{
		{bpf.KernelCounterCOUNTER_CAPTURED, &s.Captured, connections, []string{"outbound", "captured"}},
		{bpf.KernelCounterCOUNTER_DNS, &s.DNS, connections, []string{"dns", "captured"}},
		{bpf.KernelCounterCOUNTER_REFUSED, &s.Refused, connections, []string{"outbound", "refused"}},
		{bpf.KernelCounterCOUNTER_PASSED, &s.Passed, connections, []string{"outbound", "passed"}},
		{bpf.KernelCounterCOUNTER_UDP_REFUSED, &s.UDPRefused, connections, []string{"outbound", "refused_udp"}},
		{bpf.KernelCounterCOUNTER_NAMESPACE, &s.OtherNamespace, connections, []string{"outbound", "other_namespace"}},
		{bpf.KernelCounterCOUNTER_DEVICE, &s.BoundToDevice, connections, []string{"outbound", "bound_to_device"}},
		{bpf.KernelCounterCOUNTER_STEERED, &s.Steered, connections, []string{"inbound", "captured"}},
		{bpf.KernelCounterCOUNTER_OWN_DIALS, &s.OwnDials, connections, []string{"inbound", "own"}},
		{bpf.KernelCounterCOUNTER_INBOUND_REFUSED, &s.InboundRefused, connections, []string{"inbound", "refused"}},
		{bpf.KernelCounterCOUNTER_INBOUND_PASSED, &s.InboundPassed, connections, []string{"inbound", "passed"}},
		{bpf.KernelCounterCOUNTER_ACCELERATED, &s.Accelerated, accelerated, nil},
		{bpf.KernelCounterCOUNTER_REDIRECTED, &s.Redirected, messages, []string{"past_tcp"}},
		{bpf.KernelCounterCOUNTER_BY_TCP, &s.ByTCP, messages, []string{"by_tcp"}},
	}
}
