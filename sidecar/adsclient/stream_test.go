package adsclient

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

func TestAGatewayThatFailedIsNoFaultWhileAnotherGivesTheRoutes(t *testing.T) {
	id := identitytest.New(t, "mesh.example").Workload("east", "shop", "web")
	links, err := gatewaylink.New(id, []string{"127.0.0.1:1", "127.0.0.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Links: links, Apply: func([]*mesh.Route, []mesh.Destination) {}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.stream(t.Context(), links[0]); err == nil || links[0].Status().ADSError == "" {
		t.Fatalf("a gateway that is not there is no fault: %v", err)
	}
	c.routesFrom(links[1])
	if a, b := links[0].Status(), links[1].Status(); a.ADSError != "" || a.ADS || !b.ADS {
		t.Errorf("%+v, %+v", a, b)
	}
}

func TestWhatIsSaidOfManyResourcesThatCannotBeUsedIsShort(t *testing.T) {
	var log bytes.Buffer
	c, err := New(Config{Apply: func([]*mesh.Route, []mesh.Destination) {}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var bad []*discoveryv3.Resource
	for i := range 20_000 {
		bad = append(bad, &discoveryv3.Resource{Name: fmt.Sprint("nonsense-", i)})
	}
	nack := c.accept(clusters(bad...)).GetErrorDetail().GetMessage()
	if !strings.HasPrefix(nack, `resource "nonsense-0" is a ""`) || !strings.HasSuffix(nack, " bytes)") || len(nack) > 1100 {
		t.Errorf("%d bytes: %.2000s", len(nack), nack)
	}
	if log.Len() > 1400 {
		t.Errorf("%d bytes are logged", log.Len())
	}
}
