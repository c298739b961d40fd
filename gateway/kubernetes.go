package gateway

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
)

// kubernetes is what a gateway has from its cluster's API server.
type kubernetes struct {
	client *kube.Client
	// lease decides which of this cluster's gateways writes what all of them could.
	lease *kube.Lease

	// siblings are the addresses of this cluster's gateways, itself included.
	siblings *kube.Followed[*discoveryv1.EndpointSlice]
	// public is the Service of which the address is told to others; nil: the
	// configuration says what is.
	public *kube.Followed[*corev1.Service]
}

// gatewaysService is the headless Service of a cluster's gateways.
const gatewaysService = "isthmus-gateway"

// openKubernetes opens the client and says what is followed; nothing is read yet.
func (g *Gateway) openKubernetes() (k *kubernetes, err error) {
	if !g.cfg.Kubernetes.Enabled {
		return nil, nil
	}
	k = &kubernetes{}
	k.client, err = kube.Open(kube.Config{Kubeconfig: g.cfg.Kubernetes.Kubeconfig, Log: g.log, Metrics: g.registry})
	if err != nil {
		return nil, err
	}
	k.lease = k.client.Lease(k.client.Namespace(), gatewaysService, string(g.cfg.Name))
	k.siblings, err = kube.Follow[*discoveryv1.EndpointSlice](k.client, kube.Selection{
		Namespace: k.client.Namespace(), Labels: discoveryv1.LabelServiceName + "=" + gatewaysService,
	}, nil)
	if err != nil {
		return nil, err
	}
	if g.cfg.Kubernetes.Advertise {
		k.public, err = kube.Follow[*corev1.Service](k.client, kube.Selection{
			Namespace: k.client.Namespace(), Fields: "metadata.name=" + string(g.cfg.Name),
		}, nil)
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
	}
	if g.kubernetes.public != nil {
		all = append(all, part{"public address", g.followPublicAddress})
	}
	return all
}
