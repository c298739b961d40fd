package config

import (
	"path/filepath"
	"testing"
)

func TestACertificateHasOneOrigin(t *testing.T) {
	const more = "identity: names more than one origin of the certificate: write one of dir, ca and workloadAPI"
	const withDir = more + ", or unset ISTHMUS_IDENTITY_DIR if dir comes from there"
	for identity, want := range map[string]string{
		"{dir: pki}":                                                             "",
		"{ca: [10.0.0.4], token: token}":                                         "",
		"{workloadAPI: 'unix:///run/spire/agent.sock'}":                          "",
		"{dir: pki, ca: [10.0.0.4], token: token}":                               withDir,
		"{dir: pki, workloadAPI: 'unix:///run/a.sock'}":                          withDir,
		"{ca: [10.0.0.4], token: t, workloadAPI: 'unix:///run/a.sock'}":          more,
		"{ca: [10.0.0.4]}":                                                       "identity.token: is missing: write the file that isthmus pki token -o FILE writes",
		"{ca: [':1'], token: t}":                                                 `identity.ca[0]: ":1" has no host: write host:port, such as 10.0.0.4:15010`,
		"{dir: pki, token: token}":                                               "identity.token: is of no use without identity.ca: write the addresses of this cluster's CAs, such as [10.0.0.4:15010]",
		"{ca: [10.0.0.4], token: t, fingerprint: [ab], cluster: west}":           "",
		"{ca: [10.0.0.4], token: t, fingerprint: [ab]}":                          "identity.cluster: is missing: write the cluster whose CAs may be shown the token, such as west",
		"{ca: [10.0.0.4], token: t, cluster: west}":                              "identity.cluster: is of no use without identity.fingerprint or identity.roots: a token of isthmus pki token names its cluster",
		"{dir: pki, fingerprint: [ab], cluster: west}":                           "identity.fingerprint: and identity.roots are of no use without identity.ca: write the addresses of this cluster's CAs, such as [10.0.0.4:15010]",
		"{ca: [10.0.0.4], token: t, roots: r, fingerprint: [ab], cluster: west}": "identity.roots: stands beside identity.fingerprint: write one of them",
		"{workloadAPI: /run/a}":                                                  `identity.workloadAPI: "/run/a" is no socket: write its path, such as unix:///run/spire/agent.sock`,
		"{workloadAPI: 'unix://a'}":                                              `identity.workloadAPI: "unix://a" is no socket: write its path, such as unix:///run/spire/agent.sock`,
	} {
		path := write(t, "gateways: [10.0.0.5]\nidentity: "+identity+"\n")
		_, err := LoadSidecar(path, nil)
		if want != "" {
			want = "f.yaml:2: " + want
		}
		if got := faults(path, err); got != want {
			t.Errorf("%s: %q, want %q", identity, got, want)
		}
	}
}

func TestWithoutAnotherOriginACertificateIsInTheDefaultDirectory(t *testing.T) {
	path := write(t, "gateways: [10.0.0.5]\n")
	s, err := LoadSidecar(path, nil)
	if err != nil || s.Identity.Dir != defaultIdentityDir {
		t.Errorf("%+v, %v", s.Identity, err)
	}
	path = write(t, "gateways: [10.0.0.5]\nidentity: {ca: [10.0.0.4, 10.0.0.5:1], token: token}\n")
	s, err = LoadSidecar(path, nil)
	if err != nil || s.Identity.Dir != "" || s.Identity.Token != filepath.Join(filepath.Dir(path), "token") {
		t.Errorf("%+v, %v", s.Identity, err)
	}
	if got := s.Identity.CA; len(got) != 2 || got[0] != "10.0.0.4:15010" || got[1] != "10.0.0.5:1" {
		t.Errorf("CAs %q", got)
	}
}
