package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

func TestForgetNamesTheClustersThatWereNotAsked(t *testing.T) {
	verdict := func(self mesh.ClusterName, elsewhere ...mesh.ClusterName) *status.Forget {
		return &status.Forget{Self: mesh.GatewayID{Cluster: self, Name: "g-1"}, Forgotten: []mesh.GatewayID{{Cluster: "west", Name: "w-1"}}, Elsewhere: elsewhere}
	}
	for want, verdicts := range map[string][]*status.Forget{
		"not asked: cluster north, ": {verdict("east", "north", "south"), verdict("south", "east", "north")},
		"forgotten in cluster east":  {verdict("east")},
	} {
		var b bytes.Buffer
		if err := writeForgotten(newTable(&b), "west", verdicts); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) || strings.Count(b.String(), "not asked") > 1 || len(verdicts) == 1 && strings.Contains(b.String(), "not asked") {
			t.Errorf("it says\n%s", &b)
		}
	}
}
