package interception

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/isthmus-mesh/isthmus/interception/hooks"
	"github.com/isthmus-mesh/isthmus/interception/nft"
)

// PodTable is what is captured in a pod, by an nftables table.
type PodTable = nft.Pod

// PodHooks is what is captured in a pod, by eBPF.
type PodHooks = hooks.Pod

// ErrOlder is [hooks.ErrOlder].
var ErrOlder = hooks.ErrOlder

// AttachPod is [hooks.AttachPod]. It takes what [Attach] does and CAP_SYS_PTRACE, but no
// CAP_SYS_ADMIN.
func AttachPod(cfg PodHooks) error { return hooks.AttachPod(cfg) }

// DetachPod removes what AttachPod put in place.
func DetachPod(base, name string) error {
	_, err := hooks.Detach(base, name)
	return err
}

// AttachedPods lists the names that AttachPod was given.
func AttachedPods(base string) ([]string, error) { return hooks.Attached(base) }

// SetNodeAddresses is [hooks.SetNodeAddresses].
func SetNodeAddresses(base string, addresses []netip.Addr) error {
	return hooks.SetNodeAddresses(base, addresses)
}

// RedirectPod puts an nftables table into the network namespace of the caller, a pod's, or
// replaces the one that is there. It needs CAP_NET_ADMIN there and nothing else. Where cfg.Nodes
// pass, so do the gateways of the pod's routes, which are addresses of its node.
func RedirectPod(cfg PodTable) error {
	var err error
	if len(cfg.Nodes) > 0 {
		gateways, err := defaultGateways()
		if err != nil {
			return fmt.Errorf("redirect pod: %w", err)
		}
		for _, a := range gateways {
			if !slices.Contains(cfg.Nodes, a) {
				cfg.Nodes = append(cfg.Nodes, a)
			}
		}
	}
	switch {
	case len(cfg.Nodes) > nft.MaxExcluded:
		err = fmt.Errorf("%d addresses of nodes: at most %d", len(cfg.Nodes), nft.MaxExcluded)
	case len(cfg.Excluded) > nft.MaxExcluded:
		err = fmt.Errorf("%d ports that pass: at most %d", len(cfg.Excluded), nft.MaxExcluded)
	default:
		err = nft.RedirectPod(cfg)
	}
	if err != nil {
		return fmt.Errorf("redirect pod: %w", err)
	}
	return nil
}

// defaultGateways are where this network namespace sends what is not near.
func defaultGateways() ([]netip.Addr, error) {
	v4, err := os.ReadFile("/proc/thread-self/net/route")
	if err != nil {
		return nil, err
	}
	v6, err := os.ReadFile("/proc/thread-self/net/ipv6_route")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // IPv6 may not be built in
		return nil, err
	}
	return append(gateways4(string(v4)), gateways6(string(v6))...), nil
}

// RemoveNodeAddresses is [hooks.RemoveNodeAddresses].
func RemoveNodeAddresses(base string) error { return hooks.RemoveNodeAddresses(base) }
