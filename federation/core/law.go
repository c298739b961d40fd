package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// LeftOut is what a gateway offers and does not count here.
type LeftOut struct {
	Service mesh.ServiceName
	Why     string
}

// Refusal is a LeftOut and who is behind it, for the audit.
type Refusal struct {
	Signer identity.ID
	LeftOut
}

// Judge returns what of an origin's exports counts, and what does not and why. signer is
// who signed them: a cluster says what it serves, within what its certificate names, and
// nobody answers for a service but workloads of its namespace and, for plain endpoints, the
// cluster's gateways. Both results are in the order of exports, which stay as they are.
func Judge(signer identity.Peer, exports []mesh.Export) (lawful []mesh.Export, leftOut []LeftOut) {
	lawful = make([]mesh.Export, 0, len(exports))
	for _, e := range exports {
		judged, err := judgeExport(signer, e)
		if err != nil {
			leftOut = append(leftOut, LeftOut{e.Service, err.Error()})
			continue
		}
		lawful = append(lawful, judged)
	}
	return lawful, leftOut
}

// judgeExport returns the export with its plain ports marked, or why it does not count.
func judgeExport(signer identity.Peer, e mesh.Export) (mesh.Export, error) {
	if err := signer.CheckOffer(e.Service.Namespace); err != nil {
		return e, err
	}
	marked := false
	for i, p := range e.Ports {
		workloads := 0
		for _, s := range p.Identities {
			id, err := identity.ParseID(s)
			if err != nil {
				return e, err
			}
			if id.TrustDomain != signer.TrustDomain || id.Cluster != signer.Cluster {
				return e, fmt.Errorf("identity %s is not of trust domain %s and cluster %s", s, signer.TrustDomain, signer.Cluster)
			}
			if err := (identity.Peer{ID: id, Namespaces: signer.Namespaces}).CheckAnswer(e.Service.Namespace); err != nil {
				return e, err
			}
			if !id.IsGateway() {
				workloads++
			}
		}
		if plain := workloads == 0 && len(p.Identities) > 0; plain != p.Plain {
			if !marked {
				e.Ports, marked = slices.Clone(e.Ports), true // the catalog's own are not to be changed
			}
			e.Ports[i].Plain = plain
		}
	}
	return e, nil
}

// takeImports recomputes what of an origin's lawful exports this gateway takes.
func (c *Core) takeImports(id mesh.GatewayID, o *origin) {
	o.taken = o.exports
	if id.Cluster == c.cfg.Self.Cluster || !c.cfg.Imports.Confine(id.Cluster) {
		return
	}
	o.taken = nil
	for _, e := range o.exports {
		if c.cfg.Imports.Takes(id.Cluster, e.Service) {
			o.taken = append(o.taken, e)
		}
	}
}

// SetImports replaces what this gateway takes of other clusters.
type SetImports mesh.Imports

func (in SetImports) apply(c *Core, _ time.Time) {
	c.cfg.Imports, c.viewChanged = mesh.Imports(in), true
	for id, o := range c.origins {
		c.takeImports(id, o)
	}
}
