package dns

import (
	"context"
	"errors"
	"strings"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

// kubernetesZone returns the zone of services in Kubernetes, svc.cluster.local, as the search
// list of a pod says it; empty: this is no pod's.
func kubernetesZone(search []string) string {
	for _, domain := range search {
		if strings.HasPrefix(domain, "svc.") && domain != clustersetZone {
			return domain
		}
	}
	return ""
}

// classify is the function of that name with the names that Kubernetes gives to services,
// with or without a port, and to their instances. What else is in that zone is never ours.
func (s *Server) classify(packet []byte) (verdict, string) {
	search := s.cfg.ResolvConf.load().search
	v, zone := classify(packet, search)
	if v != forward || s.cfg.InMesh == nil {
		return v, zone
	}
	if zone = kubernetesZone(search); zone == "" {
		return v, ""
	}
	name, _, err := dns.UnpackDomainName(packet, headerSize)
	if err != nil || len(packet) < headerSize || packet[2]&opcodeBits != 0 || s.understand(dns.CanonicalName(name), zone).kind == nothing {
		return forward, ""
	}
	return perhaps, zone
}

// isInMesh reports whether the only question of a message, which is perhaps ours, is for a
// service that is reached by the mesh. Everything else is for the server that was asked:
// services without sidecars or with ports of UDP, headless ones and their instances, names of other zones with a search domain
// behind them, and all when no gateway answers. By then the addresses that the server will
// give are captured, where they are a meshed service's.
func (s *Server) isInMesh(ctx context.Context, packet []byte, zone string) bool {
	name, _, err := dns.UnpackDomainName(packet, headerSize)
	if err != nil {
		return false
	}
	m := s.understand(dns.CanonicalName(name), zone)
	d := m.service
	s.names.asked(d)
	wait := s.names.waitsFor(d)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	in, err := s.cfg.InMesh(ctx, d)
	after := forgetPresent
	if err != nil {
		after = forgetOutside
	}
	s.names.answered(d, after)
	if err != nil && !errors.Is(err, routes.ErrAbsent) && wait > 0 {
		s.names.undecide(d)
		s.log.Debug("no gateway says whether a name is the mesh's: it is forwarded", "service", d.Host(), "err", err)
	}
	return in && err == nil && m.kind != instance
}

// understand is the function of that name, with the zone of Kubernetes.
func (s *Server) understand(name, zone string) meaning {
	switch zone {
	case meshZone, clustersetZone, reverse4Zone, reverse6Zone:
		return understand(name, zone)
	}
	// svc.clusterset.local with a search domain behind it is asked for first by each resolver
	// with ndots:5: it is empty, and no service of the own cluster.
	if s.cfg.InMesh == nil || !strings.HasPrefix(zone, "svc.") || strings.HasPrefix(zone, clustersetZone) {
		return understand(name, zone)
	}
	// As if it were orders.shop.mesh.
	own, ok := strings.CutSuffix(name, "."+zone)
	if !ok {
		return meaning{}
	}
	m := understand(own+"."+meshZone, meshZone)
	switch {
	case m.kind == service && m.service.Cluster != "": // as if db-0.db.shop were orders.shop.east
		at := mesh.ServiceName{Namespace: string(m.service.Cluster), Name: m.service.Service.Namespace}
		return meaning{kind: instance, service: mesh.Destination{Service: at, Cluster: s.cfg.Cluster}}
	case m.kind != service && m.kind != ports || m.service.Cluster != "":
		return meaning{}
	}
	m.service.Cluster = s.cfg.Cluster
	return m
}
