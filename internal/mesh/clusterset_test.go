package mesh

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestClusterSetsThatDifferInAnyFieldAreNotEqual(t *testing.T) {
	full := ClusterSet{
		Since: time.Unix(1, 0).UTC(), Headless: true, Ports: []ClusterSetPort{{Name: "dns", Protocol: "UDP", Port: 53}},
		SessionAffinity: "ClientIP", AffinityTimeout: 10, InternalTrafficPolicy: "Cluster", TrafficDistribution: "PreferClose",
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
	}
	for i := range reflect.TypeFor[ClusterSet]().NumField() {
		other := full
		reflect.ValueOf(&other).Elem().Field(i).SetZero()
		if full.Equal(&other) {
			t.Errorf("without %s it is the same", reflect.TypeFor[ClusterSet]().Field(i).Name)
		}
	}
	if !full.Equal(&full) || full.Equal(nil) || !(*ClusterSet)(nil).Equal(nil) {
		t.Error("Equal is wrong about what is the same, or about nothing")
	}
	b, err := json.Marshal(Export{Service: ServiceName{"shop", "orders"}, ClusterSet: &full})
	if err != nil {
		t.Fatal(err)
	}
	var back Export
	if err := json.Unmarshal(b, &back); err != nil || !back.ClusterSet.Equal(&full) {
		t.Errorf("%v after JSON, error %v", back.ClusterSet, err)
	}
}
