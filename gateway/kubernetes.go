package gateway

import (
	"context"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	discoverykubernetes "github.com/isthmus-mesh/isthmus/gateway/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// kubernetes is what a gateway has from its cluster's API server.
type kubernetes struct {
	client *kube.Client
	// lease decides which of this cluster's gateways writes what all of them could.
	lease *kube.Lease

	// services are those of the API server, resources the objects of our own kinds.
	services  *discoverykubernetes.Source
	resources *discoverykubernetes.Resources
	// siblings are the addresses of this cluster's gateways, itself included.
	siblings   *kube.Followed[*discoveryv1.EndpointSlice]
	advertiser *advertiser // nil: the configuration says what is told to others
	// routes are those whose parents are services.
	routes *discoverykubernetes.Routes
}

// gatewaysService is the headless Service of a cluster's gateways.
const gatewaysService = "isthmus-gateway"

// openKubernetes opens the client and says what is followed; nothing is read yet.
func (g *Gateway) openKubernetes() (k *kubernetes, err error) {
	if !g.cfg.Kubernetes.Enabled {
		return nil, nil
	}
	k = &kubernetes{}
	k.client, err = kube.Open(kube.Config{Kubeconfig: g.cfg.Kubernetes.Kubeconfig, Keep: g.statePath(kubernetesFile), Log: g.log, Metrics: g.registry})
	if err != nil {
		return nil, err
	}
	k.lease = k.client.Lease(k.client.Namespace(), gatewaysService, string(g.cfg.Name))
	source := discoverykubernetes.Config{Client: k.client, TrustDomain: g.identity.ID().TrustDomain, Cluster: g.cfg.Cluster, Leads: k.lease.Held, Log: g.log}
	if k.services, err = discoverykubernetes.New(source); err != nil {
		return nil, err
	}
	if k.resources, err = discoverykubernetes.NewResources(source, k.services); err != nil {
		return nil, err
	}
	k.siblings, err = kube.Follow[*discoveryv1.EndpointSlice](k.client, kube.Selection{
		Namespace: k.client.Namespace(), Labels: discoveryv1.LabelServiceName + "=" + gatewaysService,
	}, nil)
	if err != nil {
		return nil, err
	}
	if k.routes, err = discoverykubernetes.NewRoutes(source); err != nil {
		return nil, err
	}
	if g.cfg.Kubernetes.Advertise {
		k.advertiser, err = newAdvertiser(k.client, string(g.cfg.Name), g.log)
	}
	return k, err
}

// kubernetesParts are those of a gateway that has an API server.
func (g *Gateway) kubernetesParts() []part {
	if g.kubernetes == nil {
		return nil
	}
	all := []part{
		{"kubernetes", g.kubernetes.client.Run},
		{"lease", g.kubernetes.lease.Run},
		{"siblings", g.followSiblings},
		{"routes", g.kubernetes.routes.Run},
	}
	if a := g.kubernetes.advertiser; a != nil {
		all = append(all, part{"public address", func(ctx context.Context) error { return a.run(ctx, g.federation.SetAdvertise) }})
	}
	return all
}

// status says what is known from the API server.
func (k *kubernetes) status() *status.Kubernetes {
	if k == nil {
		return nil
	}
	leads, _ := k.lease.Held()
	s := &status.Kubernetes{Server: k.client.Server(), Leads: leads}
	for _, kind := range k.client.State() {
		of := status.KubernetesKind{Kind: kind.Kind, Objects: kind.Objects, Known: kind.Known, Error: kind.Err}
		if !kind.Lost.IsZero() {
			of.Lost = time.Since(kind.Lost).Seconds()
		}
		s.Kinds = append(s.Kinds, of)
	}
	return s
}

// unheard says that the API server has never told all of what it has.
func (k *kubernetes) unheard() string {
	for _, kind := range k.client.State() {
		if !kind.Known {
			return strings.TrimSuffix("the API server "+k.client.Server()+" has not told its "+kind.Kind+" yet: "+kind.Err, ": ")
		}
	}
	return ""
}
