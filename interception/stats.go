package interception

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
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
	Steered        uint64 // inbound connections sent to the sidecar
	OwnDials       uint64 // the sidecar's connections to the program
	InboundRefused uint64 // inbound refused: no sidecar, closed
	InboundPassed  uint64 // inbound let by: no sidecar, open

	Accelerated uint64 // connections whose bytes may go past TCP
	PastTCP     uint64 // messages on them that did
	ByTCP       uint64 // messages on them that did not
}

// Stats reads the counters.
func (i *Interception) Stats() (Stats, error) {
	var s Stats
	for _, c := range s.fields() {
		var perCPU []uint64
		if err := i.counters.Lookup(uint32(c.counter), &perCPU); err != nil {
			return Stats{}, fmt.Errorf("read counters of interception %s: %w", i.name, err)
		}
		for _, n := range perCPU {
			*c.value += n
		}
	}
	return s, nil
}

// field ties a counter of the hooks to its place in Stats and in the metrics.
type field struct {
	counter bpfCounter
	value   *uint64
	metric  *prometheus.Desc
	labels  []string
}

func (s *Stats) fields() []field {
	return []field{
		{bpfCounterCOUNTER_CAPTURED, &s.Captured, connections, []string{"outbound", "captured"}},
		{bpfCounterCOUNTER_DNS, &s.DNS, connections, []string{"dns", "captured"}},
		{bpfCounterCOUNTER_REFUSED, &s.Refused, connections, []string{"outbound", "refused"}},
		{bpfCounterCOUNTER_PASSED, &s.Passed, connections, []string{"outbound", "passed"}},
		{bpfCounterCOUNTER_UDP_REFUSED, &s.UDPRefused, connections, []string{"outbound", "refused_udp"}},
		{bpfCounterCOUNTER_NAMESPACE, &s.OtherNamespace, connections, []string{"outbound", "other_namespace"}},
		{bpfCounterCOUNTER_STEERED, &s.Steered, connections, []string{"inbound", "captured"}},
		{bpfCounterCOUNTER_OWN_DIALS, &s.OwnDials, connections, []string{"inbound", "own"}},
		{bpfCounterCOUNTER_INBOUND_REFUSED, &s.InboundRefused, connections, []string{"inbound", "refused"}},
		{bpfCounterCOUNTER_INBOUND_PASSED, &s.InboundPassed, connections, []string{"inbound", "passed"}},
		{bpfCounterCOUNTER_ACCELERATED, &s.Accelerated, accelerated, nil},
		{bpfCounterCOUNTER_PAST_TCP, &s.PastTCP, messages, []string{"past_tcp"}},
		{bpfCounterCOUNTER_BY_TCP, &s.ByTCP, messages, []string{"by_tcp"}},
	}
}
