package kubernetes

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// readings is what was read of every object, kept so that only what changes is read again.
type readings map[objectKey]*reading

// reading is what was read of one.
type reading struct {
	verdict
	last      resource.Content // the last good one
	neverGood bool
	unread    string // why; empty: it could be read
}

// closes reports whether it refuses every call in its namespace: it may be what refuses, and
// nobody knows whom.
func (r *reading) closes() bool { return r.neverGood && r.key.kind == "AuthorizationPolicy" }

func compareKeys(a, b objectKey) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// update reads what is new and returns all, sorted by object.
func (r readings) update(services []*kube.Service, policies []*kube.AuthorizationPolicy) []reading {
	there := map[objectKey]*kube.Resource{}
	for _, s := range services {
		there[objectKey{"Service", s.Namespace, s.Name}] = &s.Resource
	}
	for _, p := range policies {
		there[objectKey{"AuthorizationPolicy", p.Namespace, p.Name}] = &p.Resource
	}
	for key := range r {
		if there[key] == nil {
			delete(r, key)
		}
	}
	all := make([]reading, 0, len(there))
	for key, object := range there {
		one := r[key]
		if one == nil || one.object.UID != object.UID {
			one = &reading{verdict: verdict{key: key}, neverGood: true}
			r[key] = one
		}
		if one.object == nil || one.object.Generation != object.Generation {
			if content, err := parse(key.kind, object); err == nil {
				one.last, one.neverGood, one.faults, one.unread = content, false, "", ""
			} else {
				one.unread = err.Error()
				one.reason, one.faults, one.inUse = reasonInvalid, one.unread, "its last good state"
				if one.neverGood {
					one.inUse = "nothing: it was never good"
				}
				if one.closes() {
					one.faults = fmt.Sprintf("every call to services of namespace %s is refused until this is mended or removed: %s", key.namespace, one.faults)
				}
			}
		}
		one.object = object
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b reading) int { return compareKeys(a.key, b.key) })
	return all
}

// parse reads one object as if it stood in a file.
func parse(kind string, r *kube.Resource) (resource.Content, error) {
	var spec any
	if len(r.Spec.Raw) > 0 {
		spec = json.RawMessage(r.Spec.Raw)
	}
	content, err := parseSpec(kube.Group+"/v1alpha1", kind, r, nil, spec)
	if err == nil {
		err = checkEndpoints(content)
	}
	return content, err
}

// parseSpec reads an object with those of its annotations that count, and a spec; nil: without.
// The faults have keys and no lines.
func parseSpec(apiVersion, kind string, o metav1.Object, annotations map[string]string, spec any) (resource.Content, error) {
	metadata := map[string]any{"namespace": o.GetNamespace(), "name": o.GetName()}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	document := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
	if spec != nil {
		document["spec"] = spec
	}
	data, err := json.Marshal(document)
	if err != nil {
		return resource.Content{}, err
	}
	content, err := resource.Parse(kind, data)
	if faults, ok := errors.AsType[strictyaml.Faults](err); ok {
		lines := make([]string, 0, len(faults))
		for _, f := range faults {
			lines = append(lines, f.Key+": "+f.Problem)
		}
		return resource.Content{}, errors.New(strings.Join(lines, "\n"))
	}
	return content, err
}

// checkEndpoints refuses addresses that are nobody's but the gateway's own host: whoever may
// write a Service in one namespace shall not reach that. Files are the operator's. Where a name
// leads is looked at when it is called.
func checkEndpoints(c resource.Content) error {
	for _, s := range c.Services {
		for _, p := range s.Service.Ports {
			for _, e := range p.Endpoints {
				host, err := netip.ParseAddrPort(e.Address)
				if err == nil && OnGateway(host.Addr()) || strings.HasPrefix(e.Address, "localhost:") {
					return fmt.Errorf("spec.endpoints: %s is the gateway's own host or link: name an address of the cluster or outside it", e.Address)
				}
			}
		}
	}
	return nil
}

// OnGateway reports whether an address is nobody's but the host's or the link's of who calls it.
func OnGateway(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.IsMulticast()
}
