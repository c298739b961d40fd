package identity

import (
	"testing"
	"time"
)

func TestACertificateKeepsThePodThatItWasIssuedTo(t *testing.T) {
	root, err := NewRoot("mesh.example", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	west, err := root.NewCluster("west", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id := ID{Namespace: "shop", ServiceAccount: "orders"}
	for _, want := range []Pod{{}, {Name: "orders-7d9f-x2", UID: "6f9a7c1e-0000-4000-8000-000000000001"}} {
		c, err := west.Issue(Request{ID: id, Pod: want})
		if err != nil {
			t.Fatal(err)
		}
		if got := PodOf(c.chain[0]); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got, err := IDOf(c.chain[0]); err != nil || got.ServiceAccount != "orders" {
			t.Errorf("its identity is %v, %v", got, err)
		}
	}
}
