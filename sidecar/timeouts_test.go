package sidecar

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
)

func TestTimeoutsOfAnUpstreamHoldForItsServiceHoweverItIsReached(t *testing.T) {
	orders := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	none := time.Duration(0)
	cfg := &config.Sidecar{Upstreams: []config.Upstream{
		{Service: orders, Port: 80, Timeouts: config.Timeouts{Request: time.Second, Connect: time.Minute}},
		{Service: orders, Port: 81, Timeouts: config.Timeouts{Idle: &none}},
	}}
	s := &Sidecar{}
	s.inForce.Set(cfg)
	def := exchange.DefaultTimeouts()
	for d, want := range map[mesh.Destination]struct {
		bounds  exchange.Timeouts
		connect time.Duration
	}{
		{Service: orders, Port: 80}:                      {exchange.Timeouts{Request: time.Second, Idle: def.Idle, Relay: def.Relay}, time.Minute},
		{Service: orders, Port: 81}:                      {exchange.Timeouts{}, -1},
		{Service: orders, Port: 81, Cluster: "west"}:     {exchange.Timeouts{}, -1},
		{Service: orders, Port: 99}:                      {exchange.Timeouts{Request: time.Second, Idle: def.Idle, Relay: def.Relay}, time.Minute},
		{Service: mesh.ServiceName{Name: "x"}, Port: 80}: {def, 0},
	} {
		if got, connect := s.timeoutsToward(d), s.connectTimeoutToward(d); got != want.bounds || connect != want.connect {
			t.Errorf("%s: %+v and %v, want %+v", d, got, connect, want)
		}
	}
}
