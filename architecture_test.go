package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus"

// imports is the whole import graph of this repository: who may import whom.
// A package that is not a key, or an edge that is not listed, fails the test,
// and so does an entry that nothing uses any more. The rules behind it:
//
//   - gateway and sidecar never import each other;
//   - the sidecar never sees federation;
//   - packages that carry traffic (gateway/forward, sidecar/proxy,
//     sidecar/upstream, internal/tunnel, internal/relay) never see gossip or
//     Envoy types.
var imports = map[string][]string{
	".":             {"internal/cli"},
	"internal/cli":  {"gateway", "gateway/discovery/file", "interception", "internal/admin", "internal/authorize", "internal/ca", "internal/config", "internal/demo", "internal/enroll", "internal/health", "internal/identity", "internal/inject", "internal/inject/manifest", "internal/kube", "internal/mesh", "internal/osuser", "internal/policy", "internal/resident", "internal/rotation", "internal/status", "internal/strictyaml", "internal/version", "internal/webhook", "internal/wholefile", "node", "sidecar"},
	"scripts/oci":   {},
	"internal/demo": {"internal/identity", "internal/mesh", "internal/process", "internal/status"},

	"gateway":          {"federation", "gateway/beside", "gateway/bundles", "gateway/discovery", "gateway/discovery/checked", "gateway/discovery/file", "gateway/discovery/kubernetes", "gateway/discovery/registry", "gateway/discovery/resource", "gateway/entrance", "gateway/forward", "gateway/imports", "gateway/xds", "internal/admin", "internal/audit", "internal/authorize", "internal/config", "internal/connect", "internal/enroll", "internal/hostport", "internal/identity", "internal/kube", "internal/limit", "internal/mesh", "internal/policy", "internal/prom", "internal/relay", "internal/state", "internal/status", "internal/traffic", "internal/tunnel", "internal/version", "internal/wholefile"},
	"gateway/beside":   {"gateway/discovery/kubernetes", "internal/beside", "internal/identity", "internal/tlsport"},
	"gateway/bundles":  {"internal/identity", "internal/tlsport", "internal/trust"},
	"gateway/entrance": {"gateway/forward", "internal/drain", "internal/identity", "internal/limit", "internal/liveness", "internal/mesh", "internal/prom", "internal/relay", "internal/state"},
	"gateway/imports":  {"internal/identity", "internal/kube", "internal/mesh", "internal/prom", "internal/state"},
	"gateway/forward":  {"internal/authorize", "internal/connect", "internal/dialerr", "internal/drain", "internal/identity", "internal/limit", "internal/liveness", "internal/mesh", "internal/policy", "internal/prom", "internal/relay"},
	"gateway/xds":      {"internal/drain", "internal/identity", "internal/limit", "internal/liveness", "internal/mesh", "internal/policy", "internal/prom", "internal/state", "internal/tlsport", "internal/wholefile", "internal/xds"},

	"gateway/discovery":            {"internal/health", "internal/mesh", "internal/state"},
	"gateway/discovery/checked":    {"gateway/discovery", "internal/health", "internal/mesh", "internal/prom", "internal/state"},
	"gateway/discovery/file":       {"gateway/discovery", "gateway/discovery/resource", "internal/mesh", "internal/policy", "internal/prom", "internal/state", "internal/strictyaml", "internal/traffic"},
	"gateway/discovery/kubernetes": {"gateway/discovery", "gateway/discovery/resource", "internal/identity", "internal/kube", "internal/mesh", "internal/policy", "internal/state", "internal/strictyaml", "internal/traffic"},
	"gateway/discovery/resource":   {"gateway/discovery", "internal/health", "internal/hostport", "internal/identity", "internal/mesh", "internal/policy", "internal/state", "internal/strictyaml", "internal/traffic"},
	"gateway/discovery/registry":   {"gateway/discovery", "internal/audit", "internal/dialerr", "internal/hostport", "internal/identity", "internal/limit", "internal/mesh", "internal/prom", "internal/register", "internal/state", "internal/tlsport", "internal/wholefile"},

	"federation":         {"federation/catalog", "federation/core", "federation/gossip", "internal/audit", "internal/identity", "internal/limit", "internal/mesh", "internal/prom", "internal/state", "internal/tunnel"},
	"federation/catalog": {"internal/mesh"},
	"federation/core":    {"federation/catalog", "internal/identity", "internal/mesh", "internal/state"},
	"federation/gossip":  {"internal/mesh"},

	"node":                 {"interception", "internal/admin", "internal/config", "internal/kube", "internal/prom", "internal/version"},
	"interception":         {"interception/hooks", "interception/nft", "interception/sockmap"},
	"interception/hooks":   {"interception/bpf"},
	"interception/sockmap": {"interception/bpf"},
	"interception/nft":     {},
	"interception/bpf":     {},

	"sidecar":          {"interception", "internal/admin", "internal/audit", "internal/authorize", "internal/config", "internal/enroll", "internal/health", "internal/identity", "internal/mesh", "internal/osuser", "internal/policy", "internal/prom", "internal/register", "internal/relay", "internal/state", "internal/status", "internal/version", "sidecar/adsclient", "sidecar/beside", "sidecar/bundles", "sidecar/dns", "sidecar/exchange", "sidecar/gatewaylink", "sidecar/probes", "sidecar/proxy", "sidecar/registration", "sidecar/routes", "sidecar/streams", "sidecar/upstream"},
	"sidecar/dns":      {"internal/drain", "internal/limit", "internal/mesh", "internal/prom", "internal/state", "internal/wholefile", "sidecar/routes"},
	"sidecar/exchange": {"internal/authorize", "internal/connect", "internal/drain", "internal/epoll", "internal/limit", "internal/mesh", "internal/policy", "internal/prom", "internal/relay", "internal/socket", "internal/state", "internal/traffic", "sidecar/http1", "sidecar/http2", "sidecar/streams", "sidecar/upstream"},
	"sidecar/proxy":    {"internal/authorize", "internal/connect", "internal/drain", "internal/epoll", "internal/identity", "internal/limit", "internal/liveness", "internal/mesh", "internal/osuser", "internal/policy", "internal/prom", "internal/relay", "internal/state", "internal/traffic", "sidecar/exchange", "sidecar/http1", "sidecar/http2", "sidecar/routes", "sidecar/streams", "sidecar/upstream"},
	"sidecar/http1":    {"internal/mesh"},
	"sidecar/http2":    {},
	"sidecar/streams":  {"internal/liveness", "internal/relay", "sidecar/http2"},
	"sidecar/routes":   {"internal/mesh", "internal/state", "internal/traffic"},
	"sidecar/upstream": {"internal/connect", "internal/identity", "internal/liveness", "internal/mesh", "internal/prom", "internal/socket", "internal/state", "sidecar/streams"},

	"sidecar/adsclient":    {"internal/mesh", "internal/policy", "internal/prom", "internal/rpcerr", "internal/state", "internal/wholefile", "internal/xds", "sidecar/gatewaylink"},
	"sidecar/probes":       {"internal/config", "internal/health", "internal/limit"},
	"sidecar/beside":       {"internal/beside", "internal/mesh", "internal/state", "internal/wholefile", "sidecar/gatewaylink"},
	"sidecar/bundles":      {"internal/identity", "internal/trust", "sidecar/gatewaylink"},
	"sidecar/gatewaylink":  {"internal/identity", "internal/liveness", "internal/mesh", "internal/prom", "internal/rpcerr", "internal/state"},
	"sidecar/registration": {"internal/mesh", "internal/register", "internal/rpcerr", "internal/state", "sidecar/gatewaylink"},

	"internal/ca":                    {"internal/admin", "internal/audit", "internal/config", "internal/identity", "internal/kube", "internal/limit", "internal/mesh", "internal/prom", "internal/rpcerr", "internal/state", "internal/status", "internal/tlsport", "internal/trust", "internal/version", "internal/wholefile"},
	"internal/inject":                {"internal/config", "internal/identity"},
	"internal/inject/manifest":       {"internal/inject"},
	"internal/admin":                 {"internal/audit", "internal/status", "internal/version"},
	"internal/audit":                 {"internal/prom"},
	"internal/beside":                {},
	"internal/authorize":             {"internal/audit", "internal/identity", "internal/mesh", "internal/policy", "internal/prom", "internal/state", "internal/status"},
	"internal/config":                {"internal/health", "internal/hostport", "internal/mesh", "internal/strictyaml"},
	"internal/connect":               {"internal/mesh"},
	"internal/drain":                 {"internal/limit", "internal/relay"},
	"internal/dialerr":               {},
	"internal/epoll":                 {},
	"internal/rpcerr":                {},
	"internal/socket":                {},
	"internal/socket/sockettest":     {},
	"internal/enroll":                {"internal/admin", "internal/config", "internal/identity", "internal/identity/caclient", "internal/identity/workloadapi", "internal/state", "internal/status", "internal/version"},
	"internal/health":                {"internal/dialerr"},
	"internal/hostport":              {},
	"internal/limit":                 {"internal/prom"},
	"internal/liveness":              {},
	"internal/identity":              {"internal/mesh", "internal/prom", "internal/state", "internal/wholefile"},
	"internal/identity/caclient":     {"internal/identity", "internal/rpcerr", "internal/state"},
	"internal/identity/workloadapi":  {"internal/identity", "internal/rpcerr", "internal/state"},
	"internal/identity/identitytest": {"internal/identity", "internal/mesh"},
	"internal/kube":                  {"internal/prom", "internal/state", "internal/version", "internal/wholefile"},
	"internal/mesh":                  {},
	"internal/policy":                {"internal/identity", "internal/mesh"},
	"internal/osuser":                {},
	"internal/process":               {},
	"internal/prom":                  {},
	"internal/register":              {},
	"internal/relay":                 {"internal/epoll"},
	"internal/resident":              {},
	"internal/rotation":              {"internal/identity", "internal/mesh"},
	"internal/state":                 {},
	"internal/status":                {"internal/identity", "internal/mesh"},
	"internal/strictyaml":            {},
	"internal/tlsport":               {"internal/drain", "internal/identity", "internal/limit"},
	"internal/traffic":               {"internal/mesh"},
	"internal/trust":                 {},
	"internal/tunnel":                {"internal/audit", "internal/identity", "internal/limit", "internal/mesh", "internal/prom", "internal/state"},
	"internal/version":               {},
	"internal/webhook":               {"internal/admin", "internal/config", "internal/inject", "internal/kube", "internal/limit", "internal/prom", "internal/state", "internal/status", "internal/version"},
	"internal/wholefile":             {},
	"internal/xds":                   {"internal/mesh", "internal/policy", "internal/traffic", "internal/xds/authorization"},
	"internal/xds/authorization":     {},
}

// homes says where each large library may be imported: as few folders as can
// be, so that it can be replaced there.
var homes = map[string][]string{
	"github.com/quic-go/quic-go":                           {"internal/tunnel"},
	"github.com/hashicorp/memberlist":                      {"federation"},
	"go.etcd.io/bbolt":                                     {"federation"},
	"github.com/cilium/ebpf":                               {"interception/bpf", "interception/hooks", "interception/sockmap"},
	"github.com/google/nftables":                           {"interception/nft"},
	"github.com/mdlayher/netlink":                          {"interception/nft", "internal/osuser"},
	"github.com/miekg/dns":                                 {"sidecar/dns"},
	"k8s.io/client-go":                                     {"internal/kube"},
	"k8s.io/klog/v2":                                       {"internal/kube"},
	"github.com/spf13/viper":                               {"internal/config"},
	"github.com/spf13/cobra":                               {"internal/cli"},
	"go.yaml.in/yaml/v3":                                   {"internal/inject/manifest", "internal/strictyaml"},
	"istio.io/api":                                         {"internal/ca", "internal/identity/caclient"},
	"github.com/spiffe/go-spiffe/v2":                       {"internal/identity", "internal/identity/workloadapi"},
	"github.com/envoyproxy/go-control-plane/pkg":           {"gateway/xds"},
	"github.com/envoyproxy/go-control-plane/envoy/config":  {"internal/xds"},
	"github.com/envoyproxy/go-control-plane/envoy/service": {"internal/xds", "sidecar/adsclient", "gateway/xds"},
}

func TestTheImportGraphIsTheOneInTheTable(t *testing.T) {
	documented := map[string]int{}
	used := map[string]map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		from := filepath.ToSlash(filepath.Dir(path))
		if strings.HasPrefix(from, "integration") { // may see everything
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		documented[from] += 0
		if f.Doc != nil {
			documented[from]++
		}
		allowed, ok := imports[from]
		if !ok {
			t.Errorf("%s: new package, not in the import graph", from)
		}
		if used[from] == nil {
			used[from] = map[string]bool{}
		}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if to, ours := strings.CutPrefix(imp, module+"/"); ours {
				used[from][to] = true
				if !slices.Contains(allowed, to) {
					t.Errorf("%s: %s must not import %s", path, from, to)
				}
			}
			for lib, home := range homes {
				if (imp == lib || strings.HasPrefix(imp, lib+"/")) && !slices.Contains(home, from) {
					t.Errorf("%s: %s belongs in %v", path, imp, home)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range slices.Sorted(maps.Keys(imports)) {
		if used[from] == nil {
			t.Errorf("%s is in the import graph and does not exist", from)
			continue
		}
		for _, to := range imports[from] {
			if !used[from][to] {
				t.Errorf("%s may import %s and does not: remove the entry", from, to)
			}
		}
	}
	for pkg, comments := range documented {
		if comments != 1 {
			t.Errorf("%s: %d package comments, want one", pkg, comments)
		}
	}
}
