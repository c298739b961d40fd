package xds

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds/authorization"
)

// everything is a policy set with every field set.
func everything() *policy.Set {
	return &policy.Set{
		Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Exported: []uint16{80, 81},
		Policies: []policy.Policy{
			{Namespace: "shop", Services: []string{"orders"}, Action: policy.Allow, Rules: []policy.Rule{{From: []policy.Callers{{Namespace: "front", ServiceAccount: "web"}}}}},
			{Namespace: "shop", Name: "a", Action: policy.Allow, DryRun: true, Rules: []policy.Rule{{
				From:  []policy.Callers{{TrustDomain: "mesh.example", Cluster: "*", Namespace: "front", ServiceAccount: "web"}, {}, {Anonymous: true}},
				Ports: []uint16{80, 65535}, Methods: []string{"GET"}, Paths: []string{"/a", "/b/*"},
				Headers: []policy.Header{{Name: "x-a", Values: []string{"1", "2*"}}, {Name: "x-b"}},
			}}},
			{Namespace: "shop", Name: "b", Action: policy.Deny, Rules: []policy.Rule{{}}},
			{Namespace: "shop", Name: "c", Action: policy.Allow},
			policy.Closing("shop", "d", "it could not be read: spec.rules[0].from[0]: callers: front"),
		},
	}
}

func TestAPolicyIsReadAsItWasWritten(t *testing.T) {
	r, err := EncodePolicy(everything())
	if err != nil {
		t.Fatal(err)
	}
	if r.GetName() != "shop/orders" || r.GetResource().GetTypeUrl() != PolicyType {
		t.Errorf("%s %s", r.GetName(), r.GetResource().GetTypeUrl())
	}
	got, err := DecodePolicy(r.GetResource().GetValue())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everything(), got); diff != "" {
		t.Error(diff)
	}
	again, err := EncodePolicy(got)
	if err != nil || again.GetVersion() != r.GetVersion() {
		t.Errorf("another version: %v", err)
	}
}

func TestAPolicyIsNoLargerThanItSays(t *testing.T) {
	s := everything()
	size := 64 + len(s.Service.Name) + 8*len(s.Exported)
	for i := range s.Policies {
		size += s.Policies[i].Size()
	}
	if r, err := EncodePolicy(s); err != nil || len(r.GetResource().GetValue()) > size {
		t.Errorf("%d bytes, said to be %d (%v)", len(r.GetResource().GetValue()), size, err)
	}
}

func TestAPolicyWithSomethingUnknownIsRefused(t *testing.T) {
	r, err := EncodePolicy(everything())
	if err != nil {
		t.Fatal(err)
	}
	more := protowire.AppendTag(nil, 77, protowire.VarintType)
	more = protowire.AppendVarint(more, 1)
	for name, change := range map[string]func(*authorization.ServicePolicy){
		"set":    func(m *authorization.ServicePolicy) { m.ProtoReflect().SetUnknown(more) },
		"policy": func(m *authorization.ServicePolicy) { m.Policies[1].ProtoReflect().SetUnknown(more) },
		"rule":   func(m *authorization.ServicePolicy) { m.Policies[1].Rules[0].ProtoReflect().SetUnknown(more) },
		"callers": func(m *authorization.ServicePolicy) {
			m.Policies[1].Rules[0].From[1].ProtoReflect().SetUnknown(more)
		},
		"header": func(m *authorization.ServicePolicy) {
			m.Policies[1].Rules[0].Headers[0].ProtoReflect().SetUnknown(more)
		},
		"action":    func(m *authorization.ServicePolicy) { m.Policies[1].Action = 9 },
		"no action": func(m *authorization.ServicePolicy) { m.Policies[1].Action = 0 },
		"port":      func(m *authorization.ServicePolicy) { m.Policies[1].Rules[0].Ports[0] = 65616 },
		"exported":  func(m *authorization.ServicePolicy) { m.Exported[0] = 0 },
		"path":      func(m *authorization.ServicePolicy) { m.Policies[1].Rules[0].Paths[0] = "/../a" },
		"from":      func(m *authorization.ServicePolicy) { m.Policies[1].Rules[0].From = nil },
		"service":   func(m *authorization.ServicePolicy) { m.Name = "" },
		"many":      func(m *authorization.ServicePolicy) { m.Policies = make([]*authorization.Policy, policy.MaxPolicies+1) },
	} {
		m := &authorization.ServicePolicy{}
		if err := proto.Unmarshal(r.GetResource().GetValue(), m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodePolicy(b); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := DecodePolicy([]byte("{")); err == nil || !strings.Contains(err.Error(), "policy") {
		t.Error(err)
	}
}

func FuzzDecodePolicy(f *testing.F) {
	r, err := EncodePolicy(everything())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.GetResource().GetValue())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodePolicy(b)
		if err != nil {
			return
		}
		if _, err := policy.Compile(s, "mesh.example", "east"); err != nil {
			t.Fatalf("taken and not compiled: %v", err)
		}
		if _, err := EncodePolicy(s); err != nil {
			t.Fatal(err)
		}
	})
}
