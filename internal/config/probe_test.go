package config

import (
	"strings"
	"testing"
)

func TestAProbeIsReadAsItWasWritten(t *testing.T) {
	for _, p := range []Probe{
		{"web/livenessProbe", ProbeHTTP, 8080, "/a,b c?x=1&y=/:="},
		{"web/preStop", ProbeHTTPS, 1, "/"},
		{"db/startupProbe", ProbeTCP, 65535, ""},
		{"api/readinessProbe", ProbeGRPC, 50051, "shop.Web"},
	} {
		text, err := p.MarshalText()
		var got Probe
		if err == nil {
			err = got.UnmarshalText(text)
		}
		if err != nil || got != p || len(splitList(string(text))) != 1 {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, p)
		}
	}
}

func TestWhatIsNoProbeIsRefusedWithTheForm(t *testing.T) {
	for _, text := range []string{"", "web", "web=http:80:%2F", "web/a/b=http:80:%2F", "/a=tcp:1:", "a/=tcp:1:", "web/a=ftp:80:%2F", "web/a=http:0:%2F", "web/a=http:80:x", "web/a=http:80:%", "web/a=http:80"} {
		var p Probe
		if err := p.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "write container/probe=scheme:port:path") {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}

func TestProbesAreForPods(t *testing.T) {
	t.Setenv("ISTHMUS_INTERCEPTION_PROBES", "web/livenessProbe=http:8080:%2F db/startupProbe=tcp:5432:")
	t.Setenv("ISTHMUS_INTERCEPTION_MODE", "pod")
	t.Setenv("ISTHMUS_GATEWAYS", "gw.example")
	s, err := LoadSidecar("", nil)
	if err != nil || len(s.Interception.Probes) != 2 || s.Interception.Probes[1].Port != 5432 {
		t.Errorf("%+v, %v", s.Interception.Probes, err)
	}
	t.Setenv("ISTHMUS_INTERCEPTION_MODE", "explicit")
	if _, err := LoadSidecar("", nil); err == nil || !strings.Contains(err.Error(), "interception.probes") {
		t.Errorf("beside a program that is in no pod: %v", err)
	}
}
