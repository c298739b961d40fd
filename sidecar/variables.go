package sidecar

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxVariables bounds the ClusterIPs of variables, each with a port.
const maxVariables = 512

// clusterIPs reads the variables that the kubelet sets for the services of a pod's namespace
// that were there when it started. A name is that of the service in capitals, with _ for -.
//
//	DB_SERVICE_HOST=10.43.0.5
//	DB_PORT_5432_TCP=tcp://10.43.0.5:5432
func clusterIPs(environment []string, namespace string, cluster mesh.ClusterName) map[netip.AddrPort]mesh.Destination {
	values := make(map[string]string, len(environment))
	for _, v := range environment {
		if name, value, ok := strings.Cut(v, "="); ok {
			values[name] = value
		}
	}
	all := map[netip.AddrPort]mesh.Destination{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		before, isTCP := strings.CutSuffix(name, "_TCP")
		service, _, _ := cutLast(before, "_PORT_")
		to, ok := strings.CutPrefix(values[name], "tcp://")
		// The API server is called by who has to know that it is: without the mesh.
		if !isTCP || !ok || values[service+"_SERVICE_HOST"] == "" || service == "KUBERNETES" || len(all) >= maxVariables {
			continue
		}
		at, err := netip.ParseAddrPort(to)
		label := strings.ToLower(strings.ReplaceAll(service, "_", "-"))
		if err == nil && mesh.CheckLabel(label) == nil {
			all[at] = mesh.Destination{Service: mesh.ServiceName{Namespace: namespace, Name: label}, Cluster: cluster}
		}
	}
	return all
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
