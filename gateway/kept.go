package gateway

import "github.com/isthmus-mesh/isthmus/internal/admin"

// kept are the files that parts keep, none without a state directory.
func (g *Gateway) kept() []admin.KeptFile {
	if g.cfg.State == "" {
		return nil
	}
	all := []admin.KeptFile{
		{Name: resetKeyFile, Err: g.resetKey.saver.Err},
		{Name: federationFile, Err: g.federation.StateErr},
		{Name: registrationsFile, Err: g.registered.StateErr},
		{Name: bundlesFile, Err: g.identity.Trust().KeptErr},
		{Name: scopesFile, Err: g.xds.StateErr},
	}
	if g.kubernetes != nil {
		all = append(all, admin.KeptFile{Name: kubernetesFile, Err: g.kubernetes.client.KeptErr})
	}
	return all
}
