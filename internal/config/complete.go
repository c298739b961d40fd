package config

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// complete fills in what was left out and tells c what is wrong.
func (g *Gateway) complete(c *completer) {
	c.label("cluster", string(g.Cluster), "write this cluster's name, such as west")
	c.label("name", string(g.Name), "the host's name cannot be used: write this gateway's, such as west-1")
	if g.Identity.Cluster == "" && g.Identity.fromServiceAccount() {
		g.Identity.Cluster = g.Cluster
	} else if g.Identity.Cluster != "" && g.Identity.Cluster != g.Cluster {
		c.fault("identity.cluster", "%s is not this gateway's cluster, %s: leave it out", g.Identity.Cluster, g.Cluster)
	}
	g.Identity.complete(c)
	g.Kubernetes.complete(c)
	c.trustDomains(g.TrustDomains)
	c.path("resources", &g.Resources)
	c.required("state", &g.State)
	c.path("audit.file", &g.Audit.File)

	c.listen("listen.tunnel", &g.Listen.Tunnel, TunnelPort, false)
	c.listen("listen.mesh", &g.Listen.Mesh, MeshPort, false)
	c.listen("listen.xds", &g.Listen.XDS, XDSPort, false)
	c.listen("listen.admin", &g.Listen.Admin, GatewayAdminPort, true)
	c.listenIfSet("listen.metrics", &g.Listen.Metrics, false)
	c.listenIfSet("listen.profiles", &g.Listen.Profiles, true)

	g.completeAdvertise(c)
	c.dials("join", &g.Join, TunnelPort, "gw1.east.example:7443")
	for i, other := range g.Join {
		if g.isItself(other) {
			c.fault("join", "%s is this gateway itself: write the address of another, or nothing for the first of a mesh", g.Join[i])
		}
	}

	for cluster := range g.Imports {
		if cluster == g.Cluster {
			c.fault("imports", "%s is this gateway's own cluster: write what is taken of others", cluster)
		} else if err := mesh.CheckLabel(string(cluster)); err != nil && cluster != mesh.AnyCluster {
			c.fault("imports", "cluster %q: %v; \"*\" is every other one", cluster, err)
		}
	}

	c.between("connections", g.Connections, 1, maxConnections)
	c.between("limits.paths", g.Limits.Paths, 1, maxPaths)
	c.between("limits.pathsPerSource", g.Limits.PathsPerSource, 1, maxPaths)
	c.drain(g.Drain)
}

func (c *completer) trustDomains(domains []TrustDomain) {
	for i := range domains {
		domains[i].complete(c, fmt.Sprintf("trustDomains[%d]", i))
	}
}

// isItself reports whether whoever dials address meets this gateway. It resolves
// no names.
func (g *Gateway) isItself(address string) bool {
	if address == g.Advertise {
		return true
	}
	a, err := hostport.Parse(address)
	tunnel, terr := hostport.Parse(g.Listen.Tunnel)
	if err != nil || terr != nil {
		return false
	}
	return a.Overlaps(tunnel) && (!tunnel.Everywhere() || a.OnThisHost())
}

func (g *Gateway) completeAdvertise(c *completer) {
	tunnel, meshPort := c.port("listen.tunnel"), c.port("listen.mesh")
	if g.Kubernetes.Advertise {
		if g.Advertise != "" {
			c.fault("advertise", "and kubernetes.advertise say different things: write one of them")
		}
		if g.MeshAddress == "" {
			c.fault("meshAddress", "is missing beside kubernetes.advertise: write what this cluster's sidecars dial, such as the pod's address")
			return
		}
		c.dial("meshAddress", &g.MeshAddress, cmp.Or(meshPort, MeshPort), "10.0.0.5:15443")
		return
	}
	if g.Advertise == "" {
		host := hostName()
		if host == "" {
			c.fault("advertise", "is missing and the host has no name: write what other clusters dial, such as gw1.west.example:7443")
			return
		}
		if tunnel == 0 {
			c.fault("advertise", "is missing, and listen.tunnel has no port to tell: write what other clusters dial, such as gw1.west.example:7443")
			return
		}
		g.Advertise = hostport.Addr{Host: host, Port: tunnel}.String()
	}
	a, ok := c.dial("advertise", &g.Advertise, cmp.Or(tunnel, TunnelPort), "gw1.west.example:7443")
	if g.MeshAddress == "" {
		if ok {
			g.MeshAddress = hostport.Addr{Host: a.Host, Port: meshPort}.String()
		}
		return
	}
	c.dial("meshAddress", &g.MeshAddress, cmp.Or(meshPort, MeshPort), "10.0.0.5:15443")
}

// complete fills in what was left out and tells c what is wrong.
func (s *Sidecar) complete(c *completer) {
	if !c.doc.Has("service") {
		s.Service = nil
	}
	if len(s.Gateways) == 0 {
		c.fault("gateways", "is missing: write the addresses of this cluster's gateways, such as [10.0.0.5, 10.0.0.6]")
	}
	c.dials("gateways", &s.Gateways, XDSPort, "10.0.0.5:15012")
	s.Identity.complete(c)
	c.trustDomains(s.TrustDomains)
	c.required("state", &s.State)
	c.path("audit.file", &s.Audit.File)
	if s.Service != nil || len(s.Services) > 0 || s.Interception.Mode == Pod {
		c.listen("listen.inbound", &s.Listen.Inbound, InboundPort, false)
	}
	c.listen("listen.admin", &s.Listen.Admin, SidecarAdminPort, true)
	c.listenIfSet("listen.metrics", &s.Listen.Metrics, false)
	c.listenIfSet("listen.profiles", &s.Listen.Profiles, true)
	c.drain(s.Drain)
	if len(s.Upstreams) > maxListed {
		c.fault("upstreams", "has %d entries: at most %d are read", len(s.Upstreams), maxListed)
		return
	}
	for i := range s.Upstreams {
		s.Upstreams[i].complete(c, fmt.Sprintf("upstreams[%d]", i))
	}
	s.completeServed(c)
	s.Interception.complete(c, s.Served())
}

// complete fills in what was left out and tells c what is wrong.
func (ca *CA) complete(c *completer) {
	c.label("name", ca.Name, "the host's name cannot be used: write this CA's, such as ca-1")
	if ca.Authority == "" {
		c.fault("authority", "is missing: write the directory of the cluster's intermediate, such as pki/west, which isthmus pki cluster makes")
	}
	c.path("authority", &ca.Authority)
	if ca.TTL < minCATTL || ca.TTL > maxCATTL {
		c.fault("ttl", "%s is out of range: write %s to %s", ca.TTL, minCATTL, maxCATTL)
	}
	if len(ca.DNSNames) > maxListed {
		c.fault("dnsNames", "has %d entries: at most %d are read", len(ca.DNSNames), maxListed)
	}
	for i, name := range ca.DNSNames {
		if err := hostport.CheckName(name); err != nil {
			c.fault(fmt.Sprintf("dnsNames[%d]", i), "%v", err)
		}
	}
	c.dials("gateways", &ca.Gateways, XDSPort, "10.0.0.5:15012")
	if !c.doc.Has("kubernetes") {
		ca.Kubernetes = nil
	} else {
		ca.Kubernetes.complete(c)
	}
	c.required("state", &ca.State)
	c.path("audit.file", &ca.Audit.File)
	c.listen("listen.grpc", &ca.Listen.GRPC, CAPort, false)
	c.listen("listen.admin", &ca.Listen.Admin, CAAdminPort, true)
	c.listenIfSet("listen.metrics", &ca.Listen.Metrics, false)
	c.listenIfSet("listen.profiles", &ca.Listen.Profiles, true)
	c.drain(ca.Drain)
}

func (k *CAKubernetes) complete(c *completer) {
	if k.Audience == "" {
		c.fault("kubernetes.audience", "is empty: write that of the projected tokens, or remove the key for the default")
	}
	if k.Gateways != "" {
		namespace, account, ok := strings.Cut(k.Gateways, "/")
		if !ok || mesh.CheckLabel(namespace) != nil || mesh.CheckLabel(account) != nil {
			c.fault("kubernetes.gateways", "%q is no service account: write NAMESPACE/NAME, such as isthmus-system/isthmus-gateway", k.Gateways)
		}
	}
	c.path("kubernetes.kubeconfig", &k.Kubeconfig)
}

func (u *Upstream) complete(c *completer, key string) {
	c.listen(key+".listen", &u.Listen, 0, true)
	if u.Service == (mesh.ServiceName{}) {
		c.fault(key+".service", "is missing: write namespace/name, such as shop/cart")
	}
	if u.Port == 0 && !c.doc.Has(key+".port") {
		u.Port = ServicePort
	} else if u.Port == 0 {
		c.fault(key+".port", "must be 1 to 65535")
	}
	if u.Cluster != "" {
		c.label(key+".cluster", string(u.Cluster), "")
	}
	u.Timeouts.complete(c, key+".timeouts")
}
