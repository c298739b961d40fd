package config

import (
	"strings"
	"testing"
)

func TestInterceptionIsNamedAfterTheInstance(t *testing.T) {
	const head = "gateways: [a]\n"
	for file, want := range map[string]Interception{
		head: {Name: "sidecar", Cgroup: "isthmus/sidecar"},
		head + "service: {name: a/b, target: 'localhost:1', instance: b-1}\n":         {Name: "b-1", Cgroup: "isthmus/b-1"},
		head + "interception: {name: mine, cgroup: system.slice/b.service}\n":         {Name: "mine", Cgroup: "system.slice/b.service"},
		head + "service: {name: a/b, target: 'localhost:1', instance: not.a.label}\n": {Name: "sidecar", Cgroup: "isthmus/sidecar"},
	} {
		s, err := LoadSidecar(write(t, file), nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if got := s.Interception; got.Name != want.Name || got.Cgroup != want.Cgroup || got.Mode != Explicit {
			t.Errorf("%s: %+v, want %+v", file, got, want)
		}
	}
}

func TestABadInterceptionSaysWhatToWrite(t *testing.T) {
	_, err := LoadSidecar(write(t, "gateways: [a]\ninterception: {mode: magic, onFailure: shrug, inbound: lax, acceleration: warp, name: A_b, dnsPort: 0}\n"), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"write explicit, auto, ebpf, nftables or pod", "write closed or open", "write strict, permissive or off", "write on or off", "lower-case", "dnsPort"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestCallersPastTheMeshAreRefusedUnlessTheFileSaysOtherwise(t *testing.T) {
	const service = "gateways: [a]\nservice: {name: a/b, target: 'localhost:1'}\n"
	for file, want := range map[string]Inbound{
		service:                                                       InboundOff,
		service + "interception: {mode: ebpf}\n":                      InboundStrict,
		service + "interception: {mode: auto}\n":                      InboundStrict,
		service + "interception: {mode: nftables}\n":                  InboundOff,
		service + "interception: {mode: ebpf, inbound: permissive}\n": InboundPermissive,
		service + "interception: {mode: ebpf, inbound: off}\n":        InboundOff,
		"gateways: [a]\ninterception: {mode: ebpf}\n":                 InboundOff,
		"gateways: [a]\ninterception: {mode: pod}\n":                  InboundStrict,
		service + "interception: {mode: pod, inbound: permissive}\n":  InboundPermissive,
	} {
		s, err := LoadSidecar(write(t, file), nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		} else if s.Interception.Inbound != want {
			t.Errorf("%s: %s, want %s", file, s.Interception.Inbound, want)
		}
	}
	for file, want := range map[string]string{
		service + "interception: {inbound: strict}\n":                     "write mode ebpf",
		service + "interception: {mode: nftables, inbound: permissive}\n": "write mode ebpf",
		"gateways: [a]\ninterception: {mode: ebpf, inbound: strict}\n":    "there is no service",
		"gateways: [a]\ninterception: {acceleration: on}\n":               "write mode ebpf",
		"gateways: [a]\ninterception: {mode: pod, inbound: off}\n":        "write strict or permissive",
		"gateways: [a]\ninterception: {mode: pod, dnsPort: 5353}\n":       "leave out outboundPort and dnsPort",
	} {
		if _, err := LoadSidecar(write(t, file), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}
