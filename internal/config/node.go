package config

// Node is the configuration of the agent of a Kubernetes node, which captures its pods.
// What [LoadNode] returns is complete.
type Node struct {
	// The name of the node, as the API server knows it. Required.
	Node string `yaml:"node" flag:"name of the node"`
	// A file that says where the API server is, and who one is there. Default: the service
	// account of the pod that the agent is in.
	Kubeconfig string `yaml:"kubeconfig" flag:"kubeconfig, outside of a pod"`
	// Where the agent listens.
	Listen NodeListen `yaml:"listen"`
	// What is logged, to standard error.
	Log Log `yaml:"log"`
}

// NodeListen are the addresses that a node's agent listens on, as host:port; an empty host
// is every interface.
type NodeListen struct {
	// TCP: health, metrics and status. It has no authentication: keep it on loopback.
	Admin string `yaml:"admin" flag:"address of the admin port"`
	// TCP, for Prometheus and probes on other hosts: /metrics, /livez and /readyz and
	// nothing else of the admin port. Default: none.
	Metrics string `yaml:"metrics" flag:"address for /metrics, /livez and /readyz alone"`
	// TCP: Go's profiles, at /debug/pprof/. They tell what is in memory: keep it on
	// loopback. Default: none.
	Profiles string `yaml:"profiles" flag:"address for Go's profiles"`
}

// NodeAdminPort is the admin port of a node's agent, on loopback.
const NodeAdminPort = 15018

// nodeDefaults are what a file need not say.
func nodeDefaults() *Node {
	return &Node{Listen: NodeListen{Admin: "127.0.0.1:15018"}, Log: Log{Format: LogText}}
}

// complete fills in what was left out and tells c what is wrong.
func (n *Node) complete(c *completer) {
	if n.Node == "" {
		c.fault("node", "is missing: write the node's name, or set ISTHMUS_NODE from the field spec.nodeName of the pod")
	}
	c.path("kubeconfig", &n.Kubeconfig)
	c.listen("listen.admin", &n.Listen.Admin, NodeAdminPort, true)
	c.listenIfSet("listen.metrics", &n.Listen.Metrics, false)
	c.listenIfSet("listen.profiles", &n.Listen.Profiles, true)
}
