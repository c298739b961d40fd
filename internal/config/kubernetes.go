package config

// Kubernetes says what a gateway has from its cluster's API server.
type Kubernetes struct {
	// Read this cluster's services and resources from its API server, beside those of the
	// directory resources.
	Enabled bool `yaml:"enabled" flag:"read services and resources from the cluster's API server"`
	// The kubeconfig of the API server; its current context counts. Default: the gateway is
	// in a pod of the cluster, and is its service account.
	Kubeconfig string `yaml:"kubeconfig" flag:"kubeconfig of the cluster's API server"`
	// Instead of advertise: tell others the address of the Service that is named as this
	// gateway is, in its namespace: the annotation isthmus.io/address, else the load
	// balancer's address, else the node port at its pod's node, else the pod's address. The
	// gateway's name is its pod's then.
	Advertise bool `yaml:"advertise" flag:"tell others the address of the Service that is named as this gateway"`
}

// complete fills in what was left out and tells c what is wrong.
func (k *Kubernetes) complete(c *completer) {
	c.path("kubernetes.kubeconfig", &k.Kubeconfig)
	switch {
	case !k.Enabled && k.Advertise:
		c.fault("kubernetes.advertise", "is of no use without kubernetes.enabled: true")
	case !k.Enabled && k.Kubeconfig != "":
		c.fault("kubernetes.kubeconfig", "is of no use without kubernetes.enabled: true")
	}
}
