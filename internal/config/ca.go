package config

import "time"

// CA is the configuration of a process that issues its cluster's certificates. What
// [LoadCA] returns is complete: every default is filled in and every address has a port.
type CA struct {
	// This process's name among the CAs of its cluster: a token names the one that
	// takes it. Default: the host name.
	Name string `yaml:"name" flag:"this CA's name among those of its cluster"`
	// The directory of the cluster's intermediate: ca.pem, ca-key.pem and roots.pem, as
	// isthmus pki cluster writes them. It says which cluster this is, and is watched:
	// another intermediate of the cluster is used at once. Required.
	Authority string `yaml:"authority" flag:"directory of the cluster's ca.pem, ca-key.pem and roots.pem"`
	// host or host:port of this cluster's gateways, from which the CA hears who was
	// revoked; port 15012 when left out. Default: none, and it has to be told with
	// isthmus pki push.
	Gateways []string `yaml:"gateways" flag:"host:port of this cluster's gateways"`
	// How long the certificates that it issues are valid at most, 10s to 720h. They
	// never last longer than the intermediate.
	TTL time.Duration `yaml:"ttl" flag:"how long certificates are valid at most"`
	// Host names in this CA's own certificate, for clients that check one, as ztunnel
	// and Istio's agents do. Sidecars and gateways of this mesh look at its SPIFFE ID.
	DNSNames []string `yaml:"dnsNames" flag:"host names in this CA's own certificate"`
	// Take the tokens of Kubernetes's service accounts, which the API server is asked about.
	// Default: none is taken.
	Kubernetes *CAKubernetes `yaml:"kubernetes"`
	// The directory in which this process keeps which tokens were used. Two CAs may not
	// share one. Who removes it makes the tokens of the last minutes good once more.
	State string `yaml:"state" flag:"directory in which this process keeps which tokens were used"`
	// Where the CA listens.
	Listen CAListen `yaml:"listen"`
	// How long running calls may take to finish at shutdown, up to 1h.
	Drain time.Duration `yaml:"drain" flag:"how long running calls may take at shutdown"`
	// What is written down of the decisions about others.
	Audit Audit `yaml:"audit"`
	// What is logged, to standard error.
	Log Log `yaml:"log"`
}

// CAKubernetes says whose tokens of service accounts a CA takes: a pod's projected token
// makes it spiffe://TRUST-DOMAIN/cluster/CLUSTER/ns/NAMESPACE/sa/ACCOUNT. The CA asks the API
// server whose a token is (TokenReview), and before it renews the certificate of a pod whether
// that is still there; it may do no more there.
type CAKubernetes struct {
	// The audience that tokens must be for. One that other programs are given tokens for, as
	// the API server's own, would let who gets those become their pods.
	Audience string `yaml:"audience"`
	// namespace/name of the service account of the cluster's gateways: its pods are the
	// gateways that their names say, cluster/CLUSTER/gateway/POD. Default: no pod is one.
	Gateways string `yaml:"gateways"`
	// A kubeconfig file with which the API server is asked. Default: as the pod's own service
	// account.
	Kubeconfig string `yaml:"kubeconfig"`
}

// CAListen are the addresses that a CA listens on, as host:port; an empty host is every
// interface.
type CAListen struct {
	// TCP: certificates, gRPC over TLS.
	GRPC string `yaml:"grpc" flag:"address of the port at which certificates are asked for"`
	// TCP: health, metrics and status. It has no authentication: keep it on loopback.
	Admin string `yaml:"admin" flag:"address of the admin port"`
	// TCP, for Prometheus and probes on other hosts: /metrics, /livez and /readyz and
	// nothing else of the admin port. Default: none.
	Metrics string `yaml:"metrics" flag:"address for /metrics, /livez and /readyz alone"`
	// TCP: Go's profiles, at /debug/pprof/. They tell what is in memory: keep it on
	// loopback. Default: none.
	Profiles string `yaml:"profiles" flag:"address for Go's profiles"`
}
