package dns

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricsAreNamedAsPrometheusExpects(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	s := serve(t, shop(), func(c *Config) { c.Metrics = r })
	ask(t, s, "udp", question("orders.shop.mesh", 1))
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
