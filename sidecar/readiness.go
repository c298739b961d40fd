package sidecar

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// requireReadiness says what must hold for the sidecar to be ready. All of it may
// cease to. State that is not kept on disk is no reason: see status.
func (s *Sidecar) requireReadiness() {
	s.ready.Require("routes", s.unknownRoutes)
	s.ready.Require("gateways", s.neededGateways)
	switch {
	case len(s.cfg.Served()) > 0:
		s.ready.Require("registration", s.unregistered)
		s.ready.Require("policy", s.unknownPolicy)
	case s.isTold():
		s.ready.Require("service", func() string { return s.told.unknown() })
		s.ready.Require("policy", s.unknownPolicy)
	}
	s.servePorts() // and for each that its program answers
	s.ready.Require("certificate", func() string {
		if err := s.identity.Err(); err != nil {
			return err.Error()
		}
		return ""
	})
	s.stays = s.ready.Condition("drain", "")
}

// unknownRoutes names the upstreams of which no gateway has said anything yet.
func (s *Sidecar) unknownRoutes() string {
	table := s.routes.Load()
	var unknown []string
	for _, d := range declared(s.inForce.Load()) {
		if _, ok := table.Lookup(d); !ok && !table.Absent(d) {
			unknown = append(unknown, d.String())
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	return "no gateway has told the route to " + some(unknown)
}

// neededGateways is lostGateways but in a pod, whose readiness is that of its programs: they
// can be called without a gateway once one has been heard.
func (s *Sidecar) neededGateways() string {
	if s.mode == config.Pod {
		if s.gateways.answer() {
			s.heardGateway.Store(true)
		}
		if s.heardGateway.Load() {
			return ""
		}
	}
	return s.lostGateways()
}

// lostGateways says why there is no gateway to talk to, if there is something to say.
// One that refuses the registration is there.
func (s *Sidecar) lostGateways() string {
	why := s.gateways.say(gatewaylink.Status.LastError)
	if s.gateways.answer() {
		return ""
	}
	switch cfg := s.inForce.Load(); {
	case why != "":
		return "none serves this sidecar: " + why
	case len(s.served) > 0 || len(cfg.Upstreams) > 0:
		return "none has answered yet"
	}
	return ""
}

// unregistered says why no gateway knows of a port that is served, of the first such.
func (s *Sidecar) unregistered() string {
	for _, p := range s.served {
		if why := s.portUnregistered(p.of); why != "" && len(s.served) > 1 {
			return p.of.String() + ": " + why
		} else if why != "" {
			return why
		}
	}
	return ""
}

func (s *Sidecar) portUnregistered(of mesh.Destination) string {
	for _, l := range s.gateways {
		if st := l.Status(); st.Registration(of).Held {
			return ""
		}
	}
	if s.lostGateways() != "" {
		return "there is no gateway to hold it"
	}
	if why := s.gateways.say(func(st gatewaylink.Status) string { return st.Registration(of).Error }); why != "" {
		return "no gateway holds it: " + why
	}
	return "no gateway has answered yet"
}

// gateways are those of the sidecar.
type gateways []*gatewaylink.Link

// answer reports whether one does, if only to refuse a registration.
func (all gateways) answer() bool {
	return slices.ContainsFunc(all, func(l *gatewaylink.Link) bool {
		st := l.Status()
		return st.ADS || st.Answered()
	})
}

// say lists what is wrong with them, each thing once.
func (all gateways) say(what func(gatewaylink.Status) string) string {
	var order []string
	who := map[string][]string{}
	for _, l := range all {
		st := l.Status()
		why := what(st)
		if why == "" {
			continue
		}
		if who[why] == nil {
			order = append(order, why)
		}
		who[why] = append(who[why], st.Gateway)
	}
	for i, why := range order {
		order[i] = some(who[why]) + ": " + why
	}
	return some(order)
}

// some lists what fits on a line.
func some(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
