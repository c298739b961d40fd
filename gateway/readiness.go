package gateway

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/file"
)

// requireParts adds the conditions of readiness that the parts know of; New has
// added those that hold before they are made. All may cease to hold.
func (g *Gateway) requireParts() {
	g.ready.Require("routes", func() string {
		if g.xds.Serves() {
			return ""
		}
		return "sidecars cannot be told any yet"
	})
	g.ready.Require("join", g.unmet)
	g.ready.Require("name", g.tunnel.Duplicate)
	g.ready.Require("cluster", func() string {
		view, _ := g.federation.View()
		return view.Refused()
	})
	g.ready.Require("resources", func() string { return folderFault(g.files) })
	g.ready.Require("policies", g.unknownPolicies)
	if g.kubernetes != nil {
		g.ready.Require("kubernetes", g.kubernetes.unheard)
	}
}

// unmet says that none of the gateways that this one joins was ever met: it does not
// know what other clusters offer.
func (g *Gateway) unmet() string {
	if g.met.Load() {
		return ""
	}
	var tried []string
	for _, j := range g.joinTargets() {
		why := j.LastError
		if why == "" {
			why = "not answered yet"
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", j.Address, why))
	}
	return "met none of the gateways to join, so what other clusters offer is not known: " + strings.Join(tried, ", ")
}

// unknownPolicies says why it is not known who may call this cluster's services.
func (g *Gateway) unknownPolicies() string {
	if g.authorizers.Load() != nil {
		return ""
	}
	if why := g.resources.PoliciesUnknown(); why != "" {
		return "who may call is not known: in the resources, " + why
	}
	return "who may call is not known yet"
}

// folderFault says why the folder of resource files cannot be read.
func folderFault(s *file.Source) string {
	for _, f := range s.Status() {
		if f.File == "." && f.Err != "" {
			return f.Err + ": the last good state stays in use"
		}
	}
	return ""
}
