// Package identitytest makes the identities of a whole mesh for tests, in
// memory and in milliseconds.
package identitytest

import (
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TTL is how long the certificates of a [Mesh] are valid: longer than any
// virtual time that a test spends.
const TTL = 365 * 24 * time.Hour

// Mesh is a trust domain with its authorities. Its methods may be called
// concurrently and fail the test on error.
//
// Validity counts from time.Now when a certificate is made: within a
// testing/synctest bubble, call New and everything else inside the bubble.
type Mesh struct {
	Root *identity.Authority

	t  testing.TB
	mu sync.Mutex
	// clusters are the intermediates made so far; guarded by mu.
	clusters map[mesh.ClusterName]*identity.Authority
}

// New makes the root of a trust domain, such as "mesh.example".
func New(t testing.TB, trustDomain string) *Mesh {
	t.Helper()
	root, err := identity.NewRoot(trustDomain, 2*TTL)
	if err != nil {
		t.Fatalf("identitytest: %v", err)
	}
	return &Mesh{Root: root, t: t, clusters: make(map[mesh.ClusterName]*identity.Authority)}
}

// Apart returns the same trust domain with none of its clusters: those that it makes
// are others than m's of the same names.
func (m *Mesh) Apart() *Mesh {
	return &Mesh{Root: m.Root, t: m.t, clusters: make(map[mesh.ClusterName]*identity.Authority)}
}

// Confine makes the authority of a cluster that may offer the given namespaces only; none:
// any. Call it before anything else is made of the cluster.
func (m *Mesh) Confine(cluster mesh.ClusterName, namespaces ...string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clusters[cluster] != nil {
		m.t.Fatalf("identitytest: cluster %s is there already", cluster)
	}
	a, err := m.Root.NewCluster(cluster, namespaces, TTL)
	if err != nil {
		m.t.Fatalf("identitytest: %v", err)
	}
	m.clusters[cluster] = a
}

// Cluster returns the authority of a cluster, made when first asked for.
func (m *Mesh) Cluster(cluster mesh.ClusterName) *identity.Authority {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.clusters[cluster]
	if !ok {
		var err error
		if a, err = m.Root.NewCluster(cluster, nil, TTL); err != nil {
			m.t.Fatalf("identitytest: %v", err)
		}
		m.clusters[cluster] = a
	}
	return a
}

// Gateway returns a new certificate of a gateway.
func (m *Mesh) Gateway(cluster mesh.ClusterName, name mesh.GatewayName) *identity.Source {
	m.t.Helper()
	return m.source(cluster, gateway(name))
}

// Workload returns a new certificate of a workload. It carries the host name of
// the service that is called like the service account.
func (m *Mesh) Workload(cluster mesh.ClusterName, namespace, serviceAccount string) *identity.Source {
	m.t.Helper()
	return m.source(cluster, workload(namespace, serviceAccount))
}

// GatewayDir is Gateway as a directory for identity.Open and for processes.
func (m *Mesh) GatewayDir(cluster mesh.ClusterName, name mesh.GatewayName) string {
	m.t.Helper()
	return m.dir(cluster, gateway(name))
}

// WorkloadDir is Workload as a directory for identity.Open and for processes.
func (m *Mesh) WorkloadDir(cluster mesh.ClusterName, namespace, serviceAccount string) string {
	m.t.Helper()
	return m.dir(cluster, workload(namespace, serviceAccount))
}

func gateway(name mesh.GatewayName) identity.Request {
	return identity.Request{TTL: TTL, ID: identity.ID{Gateway: name}}
}

func workload(namespace, serviceAccount string) identity.Request {
	return identity.Request{
		TTL:      TTL,
		ID:       identity.ID{Namespace: namespace, ServiceAccount: serviceAccount},
		DNSNames: []string{mesh.ServiceName{Namespace: namespace, Name: serviceAccount}.Host()},
	}
}

func (m *Mesh) issue(cluster mesh.ClusterName, r identity.Request) *identity.Credential {
	m.t.Helper()
	c, err := m.Cluster(cluster).Issue(r)
	if err != nil {
		m.t.Fatalf("identitytest: %v", err)
	}
	return c
}

func (m *Mesh) source(cluster mesh.ClusterName, r identity.Request) *identity.Source {
	m.t.Helper()
	s, err := m.issue(cluster, r).Source()
	if err != nil {
		m.t.Fatalf("identitytest: %v", err)
	}
	return s
}

func (m *Mesh) dir(cluster mesh.ClusterName, r identity.Request) string {
	m.t.Helper()
	dir := m.t.TempDir()
	if err := m.issue(cluster, r).Save(dir, true); err != nil {
		m.t.Fatalf("identitytest: %v", err)
	}
	return dir
}
