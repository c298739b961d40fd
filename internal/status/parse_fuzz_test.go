package status

import (
	"encoding/json"
	"testing"
)

func FuzzWhatAnybodyAnswersIsReadOrRefused(f *testing.F) {
	g := gatewayThatIsWell()
	g.Services[0].Clusters[1].Protocol = "tcp"
	for _, v := range []any{g, Sidecar{Identity: "spiffe://a", Upstreams: []Upstream{{}}, Services: []Registration{{}}}, CA{ID: "spiffe://a"}} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"self":"east/east-1","gateways":[{}],"services":[{"clusters":[]}],"conflicts":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse(b)
		switch {
		case err != nil:
		case a.Gateway != nil:
			_ = a.Gateway.Verdict(now)
		case a.Sidecar != nil:
			_ = a.Sidecar.Verdict(now)
		case a.CA != nil:
			_ = a.CA.Verdict(now)
		default:
			t.Error("nobody")
		}
	})
}
