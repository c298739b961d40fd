package sidecar

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/version"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Status says what the sidecar knows now.
func (s *Sidecar) Status() *status.Sidecar {
	st := &status.Sidecar{
		Identity: s.identity.ID().String(), Version: version.String(), Pending: s.ready.Unmet(), Uptime: time.Since(s.started).Seconds(),
		Certificate: status.Certificate{NotAfter: s.identity.NotAfter(), WarnFrom: s.identity.WarnFrom(), Error: s.identity.Fault()},
		Gateways:    []status.GatewayLink{}, Upstreams: []status.Upstream{},
	}
	st.Trust = status.TrustOf(s.identity)
	st.Ready = len(st.Pending) == 0
	st.Reload = s.reloader.Last()
	st.StateError = admin.KeptError(s.kept())
	for _, l := range s.gateways {
		g := l.Status()
		st.Gateways = append(st.Gateways, status.GatewayLink{Address: g.Gateway, XDS: g.ADS, Registered: g.Registered(), LastError: g.LastError()})
	}
	table := s.routes.Load()
	upstreams := s.inForce.Load().Upstreams
	for i := range upstreams {
		u := &upstreams[i]
		up := status.Upstream{Listen: u.Listen, Destination: u.Destination(), State: "pending"}
		if service := s.upstreams.Service(up.Destination); service != nil {
			in := service.Status()
			up.State, up.LocalShare, up.Avoided = "known", in.LocalShare, in.Avoided
			up.Local, up.Gateways = hosts(in.Hosts)
		} else if table.Absent(up.Destination) {
			up.State = "absent"
		}
		st.Upstreams = append(st.Upstreams, up)
	}
	st.Interception = s.interceptionStatus()
	for _, p := range s.served {
		svc := p.configOf(s.cfg)
		st.Services = append(st.Services, status.Registration{Service: svc.Name, Port: svc.Port, Protocol: svc.Protocol, Target: svc.Target, Ready: p.healthy.Load()})
	}
	st.Services = append(st.Services, s.told.status()...)
	return st
}

func hosts(all []upstream.HostStatus) (local, gateways []status.Host) {
	local, gateways = []status.Host{}, []status.Host{}
	for _, h := range all {
		to := &local
		if h.Gateway {
			to = &gateways
		}
		*to = append(*to, status.Host{
			Instance: h.Instance, Address: h.Address, Ready: h.Ready, Weight: h.Weight, Active: h.Active, Idle: h.Idle, Shared: h.Shared, Streams: h.Streams,
			LatencyMS: h.Latency.Seconds() * 1e3, EjectedFor: h.EjectedFor.Seconds(), LastError: h.LastError,
		})
	}
	return local, gateways
}

// kept are the files of the state directory.
func (s *Sidecar) kept() []admin.KeptFile {
	files := []admin.KeptFile{{Name: routesFile, Err: s.ads.StateErr}, {Name: bundlesFile, Err: s.identity.Trust().KeptErr}}
	if s.told != nil {
		files = append(files, admin.KeptFile{Name: besideFile, Err: s.told.follower.StateErr})
	}
	if s.capture != nil {
		files = append(files, admin.KeptFile{Name: addressesFile, Err: s.capture.addresses.StateErr})
	}
	return files
}

// interceptionStatus says what is in place.
func (s *Sidecar) interceptionStatus() status.Interception {
	st := status.Interception{Mode: string(s.mode)}
	if s.mode == config.Pod {
		st.Inbound = string(s.cfg.Interception.Inbound)
	}
	if s.capture == nil || s.capture.cgroup == nil {
		return st
	}
	cfg := &s.cfg.Interception
	st.Name, st.Cgroup, st.OnFailure = cfg.Name, s.capture.cgroup.Name(), string(cfg.OnFailure)
	if s.mode == config.EBPF {
		st.Inbound, st.Accelerating = string(cfg.Inbound), s.capture.intercept.Accelerating()
	}
	return st
}
