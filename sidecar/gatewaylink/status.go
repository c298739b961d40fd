package gatewaylink

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Status is how things stand with one gateway.
type Status struct {
	Gateway  string // its xDS address
	ADS      bool   // the routes come from it
	ADSError string // why the latest attempt failed, as [rpcerr.Why] says it; empty while it stands
	// Registrations are those of the ports that are served, as far as they were tried.
	Registrations []Registration
}

// Registration is how things stand with one port that is served.
type Registration struct {
	Of      mesh.Destination
	Held    bool   // the gateway knows of it
	Address string // under which the cluster dials this sidecar; empty: not held
	Error   string // why the latest attempt failed, as [rpcerr.Why] says it; empty while it stands
	Refused bool   // the gateway was reached, and refused it
}

// Registration returns that of a port, a zero one when it was not tried yet.
func (s Status) Registration(of mesh.Destination) Registration {
	for _, r := range s.Registrations {
		if r.Of == of {
			return r
		}
	}
	return Registration{Of: of}
}

// SetRegistration replaces that of r.Of.
func (s *Status) SetRegistration(r Registration) {
	i := slices.IndexFunc(s.Registrations, func(o Registration) bool { return o.Of == r.Of })
	if i < 0 {
		s.Registrations = append(s.Registrations, r)
		return
	}
	s.Registrations[i] = r
}

// Registered reports whether the gateway knows of every port that was tried, of one at
// least.
func (s Status) Registered() bool {
	return len(s.Registrations) > 0 && !slices.ContainsFunc(s.Registrations, func(r Registration) bool { return !r.Held })
}

// Answered reports whether the gateway has taken or refused a registration.
func (s Status) Answered() bool {
	return slices.ContainsFunc(s.Registrations, func(r Registration) bool { return r.Held || r.Refused })
}

// LastError is what is wrong with any of the streams, each thing once.
func (s Status) LastError() string {
	var all []string
	for _, r := range s.Registrations {
		if r.Error != "" && !slices.Contains(all, r.Error) {
			all = append(all, r.Error)
		}
	}
	registration := strings.Join(all, "; ")
	if s.ADSError == "" || s.ADSError == registration {
		return registration
	}
	if registration == "" {
		return s.ADSError
	}
	return "routes: " + s.ADSError + "; registration: " + registration
}
