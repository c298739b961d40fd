package adsclient

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

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
