package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// PKI is the command that makes certificates: a root, an intermediate per
// cluster, and the identities of gateways and workloads.
func PKI() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "Make the mesh's certificates",
		Long: `Every connection of the mesh is mutual TLS, and every process has a
certificate that says who it is. There are three levels:

  root       one per mesh; everybody trusts it, its key can stay offline
  cluster    one per cluster; it can speak for its own cluster only
  identity   one per gateway and per workload, in a directory of its own

A directory that 'gateway' or 'workload' makes is what a configuration names:

  identity: {dir: pki/east/gateways/east-1}

Two clusters from nothing:

  isthmus pki init --trust-domain mesh.example
  isthmus pki cluster east --namespaces shop
  isthmus pki cluster west --namespaces shop
  isthmus pki gateway --cluster east east-1
  isthmus pki gateway --cluster west west-1
  isthmus pki workload --cluster east shop/orders

What is made, below the directory of --dir:

  root.pem root-key.pem                 the root
  east/ca.pem ca-key.pem roots.pem      the cluster's own: it can be moved to where
                                        east's certificates are issued, without the root's key
  east/gateways/east-1/                 cert.pem key.pem roots.pem
  east/workloads/shop/orders/           cert.pem key.pem roots.pem

A running process loads new files by itself, so to renew an identity, make it
again with --force. Or have 'isthmus ca' issue the identities of a cluster, with its
directory: then they renew by themselves, and 'token' is how they begin.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f pkiFlags
	cmd.PersistentFlags().StringVarP(&f.dir, "dir", "d", "pki", "directory of the root and the clusters")
	cmd.PersistentFlags().BoolVar(&f.force, "force", false, "replace what is there")
	cmd.AddCommand(pkiInit(&f), pkiCluster(&f), pkiGateway(&f), pkiWorkload(&f), pkiToken(),
		pkiRotate(&f), pkiRevoke(&f), pkiPush(&f), pkiFingerprint())
	return cmd
}

// pkiFlags are the flags that all pki commands share.
type pkiFlags struct {
	dir   string
	force bool
}

func pkiInit(f *pkiFlags) *cobra.Command {
	var trustDomain string
	ttl := lifetime(identity.DefaultRootTTL)
	cmd := &cobra.Command{
		Use:   "init --trust-domain NAME",
		Short: "Make the root of a mesh",
		Long: `Make the root of a mesh: root.pem, which every process trusts, and
root-key.pem, which only 'isthmus pki cluster' needs. Keep the key offline.

The trust domain is the first part of every identity and cannot be changed
later without new certificates for all. Use a DNS name that is yours; it need
not resolve.

--force makes another root: certificates of the old one are not accepted by
those of the new one.`,
		Example: `  isthmus pki init --trust-domain mesh.example
  isthmus pki init --trust-domain mesh.example -d /root/pki --ttl 20y`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if trustDomain == "" {
				return usageError{fmt.Errorf("which trust domain? write --trust-domain mesh.example, a DNS name of yours")}
			}
			root, err := identity.NewRoot(trustDomain, time.Duration(ttl))
			if err != nil {
				return usageError{err}
			}
			if err := root.Save(f.dir, f.force); err != nil {
				return fmt.Errorf("pki init: %w", err)
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "root of %s in %s, valid until %s\n", trustDomain, filepath.Join(f.dir, "root.pem"), day(root.NotAfter()))
			fmt.Fprintf(out, "next: isthmus pki cluster NAME%s\n", f.hint())
			return nil
		},
	}
	cmd.Flags().StringVar(&trustDomain, "trust-domain", "", "name of the mesh in every identity, such as mesh.example")
	cmd.Flags().Var(&ttl, "ttl", "how long it is valid, such as 20y")
	return cmd
}

func pkiCluster(f *pkiFlags) *cobra.Command {
	var namespaces []string
	ttl := lifetime(identity.DefaultClusterTTL)
	cmd := &cobra.Command{
		Use:   "cluster CLUSTER",
		Short: "Make the certificate authority of a cluster",
		Long: `Make the intermediate of a cluster, signed by the root. What it signs is
accepted for that cluster only, so a stolen one does not speak for the others.

--namespaces says whose services the cluster may offer to the others. The root's
signature covers that, and every gateway and sidecar of every cluster holds to it:
whatever the cluster says or signs, it answers for nothing else. Without it the
cluster may offer services of any namespace, also those that another cluster has,
and whoever takes its gateway or its key over can answer for them all. Its own
services may call others from any namespace, and be used within the cluster.

With --force it keeps the namespaces of the one that it replaces, unless
--namespaces names others; '*' is any. The one that is replaced is accepted until
it expires, and so are more namespaces, if it named more.

With --force it replaces the one that is there: what both have issued is of one
cluster. One that is made elsewhere under the same name is another cluster, which
the mesh refuses beside the first.

It writes the directory CLUSTER below that of --dir: ca.pem, ca-key.pem and
roots.pem. To issue in the cluster itself, move that directory there.`,
		Example: `  isthmus pki cluster east --namespaces shop,zoo
  isthmus pki cluster east --namespaces shop --force
  isthmus pki cluster west --ttl 90d`,
		Args: oneArg("the cluster's name, such as east"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := mesh.ClusterName(args[0])
			if err := mesh.CheckLabel(args[0]); err != nil {
				return usageError{fmt.Errorf("cluster: %w", err)}
			}
			root, err := identity.OpenRoot(f.dir)
			if err != nil {
				return fmt.Errorf("pki cluster: %w", err)
			}
			spaces, err := readNamespaces(namespaces)
			if err != nil {
				return usageError{err}
			}
			ca, err := newCluster(root, f, name, spaces, time.Duration(ttl))
			if err != nil {
				return fmt.Errorf("pki cluster: %w", err)
			}
			if err := ca.Save(f.dir, f.force); err != nil {
				return fmt.Errorf("pki cluster: %w", err)
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "cluster %s in %s, valid until %s\n", name, filepath.Join(f.dir, args[0]), day(ca.NotAfter()))
			if may := ca.Namespaces(); may != nil {
				fmt.Fprintf(out, "it may offer services of: %s\n", strings.Join(may, ", "))
			} else {
				fmt.Fprintln(out, "it may offer services of any namespace, also of those that are other clusters': --namespaces shop,zoo would confine it")
			}
			fmt.Fprintf(out, "next: isthmus pki gateway --cluster %s %s-1%s\n", name, name, f.hint())
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&namespaces, "namespaces", nil, "namespaces whose services it may offer, such as shop,zoo; '*' or nothing: any")
	cmd.Flags().Var(&ttl, "ttl", "how long it is valid, such as 90d")
	return cmd
}

// anyNamespace says that a cluster may offer services of any namespace.
const anyNamespace = "*"

// readNamespaces reads --namespaces. Nil: it was not given.
func readNamespaces(names []string) ([]string, error) {
	if slices.Equal(names, []string{anyNamespace}) {
		return names, nil
	}
	for _, n := range names {
		if err := mesh.CheckLabel(n); err != nil {
			return nil, fmt.Errorf("namespace %q: %w: write names such as shop,zoo, or '*' for any", n, err)
		}
	}
	return names, nil
}

// newCluster makes the intermediate of a cluster, or with --force the successor of the
// one that is there, whose namespaces it keeps when none are given.
func newCluster(root *identity.Authority, f *pkiFlags, name mesh.ClusterName, namespaces []string, ttl time.Duration) (*identity.Authority, error) {
	old, err := identity.OpenCluster(f.dir, name)
	renews := err == nil && f.force
	if f.force && err != nil && !errors.Is(err, fs.ErrNotExist) && namespaces == nil {
		return nil, fmt.Errorf("what cluster %s may offer is not known: %w: name it with --namespaces shop,zoo, or '*' for any", name, err)
	}
	if namespaces == nil && renews {
		namespaces = old.Namespaces()
	}
	if slices.Equal(namespaces, []string{anyNamespace}) {
		namespaces = nil
	}
	if renews {
		return root.RenewCluster(old, namespaces, ttl)
	}
	return root.NewCluster(name, namespaces, ttl)
}

func pkiGateway(f *pkiFlags) *cobra.Command {
	leaf := leafFlags{pkiFlags: f}
	cmd := &cobra.Command{
		Use:   "gateway --cluster CLUSTER NAME",
		Short: "Make the identity of a gateway",
		Long: `Make the identity of a gateway, signed by its cluster's authority. NAME is the
gateway's name in its configuration and must be unique in its cluster.`,
		Example: `  isthmus pki gateway --cluster east east-1
  isthmus pki gateway --cluster east east-1 -o /etc/isthmus/pki`,
		Args: oneArg("the gateway's name, such as east-1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := mesh.CheckLabel(args[0]); err != nil {
				return usageError{fmt.Errorf("gateway: %w", err)}
			}
			return leaf.issue(cmd, identity.Request{ID: identity.ID{Gateway: mesh.GatewayName(args[0])}},
				filepath.Join("gateways", args[0]))
		},
	}
	leaf.register(cmd)
	return cmd
}

func pkiWorkload(f *pkiFlags) *cobra.Command {
	leaf := leafFlags{pkiFlags: f}
	var account string
	var istio bool
	cmd := &cobra.Command{
		Use:   "workload --cluster CLUSTER NAMESPACE/SERVICE",
		Short: "Make the identity of a workload",
		Long: `Make the identity of a workload, signed by its cluster's authority: what its
sidecar, or a program that speaks TLS itself, shows to others. The instances of
a service may share one. It is also valid for the service's host names
(orders.shop.mesh), so that curl and openssl can check it.

The service account is the last part of the identity. Give --service-account
where several services run as one, or one as several.`,
		Example: `  isthmus pki workload --cluster east shop/orders
  isthmus pki workload --cluster east shop/orders --service-account backend -o /etc/isthmus/pki
  curl --cacert roots.pem --cert cert.pem --key key.pem https://orders.shop.mesh/`,
		Args: oneArg("the service, such as shop/orders"),
		RunE: func(cmd *cobra.Command, args []string) error {
			svc, err := mesh.ParseServiceName(args[0])
			if err != nil {
				return usageError{err}
			}
			sa := account
			if sa == "" {
				sa = svc.Name
			}
			pinned := mesh.Destination{Service: svc, Cluster: mesh.ClusterName(leaf.cluster)}
			return leaf.issue(cmd, identity.Request{
				ID:       identity.ID{Namespace: svc.Namespace, ServiceAccount: sa},
				DNSNames: []string{svc.Host(), pinned.Host()},
				Istio:    istio,
			}, filepath.Join("workloads", svc.Namespace, svc.Name))
		},
	}
	leaf.register(cmd)
	cmd.Flags().StringVar(&account, "service-account", "", "service account (default: the service's name)")
	cmd.Flags().BoolVar(&istio, "istio-name", false, "name it as Istio does, too, for ztunnels that call it or are called")
	return cmd
}

// leafFlags are the flags of the commands that make an identity.
type leafFlags struct {
	*pkiFlags
	cluster string
	out     string
	ttl     lifetime
}

func (f *leafFlags) register(cmd *cobra.Command) {
	f.ttl = lifetime(identity.DefaultLeafTTL)
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "cluster that it belongs to")
	cmd.Flags().StringVarP(&f.out, "out", "o", "", "directory to write (default: below the cluster's in --dir)")
	cmd.Flags().Var(&f.ttl, "ttl", "how long it is valid, such as 90d: no process renews it yet")
}

// issue makes the identity and writes it to --out or to below in the cluster's
// directory.
func (f *leafFlags) issue(cmd *cobra.Command, r identity.Request, below string) error {
	if f.cluster == "" {
		return usageError{fmt.Errorf("which cluster? write --cluster east")}
	}
	if err := mesh.CheckLabel(f.cluster); err != nil {
		return usageError{fmt.Errorf("cluster: %w", err)}
	}
	ca, err := identity.OpenCluster(f.dir, mesh.ClusterName(f.cluster))
	if err != nil {
		return fmt.Errorf("pki %s: %w", cmd.Name(), err)
	}
	r.TTL = time.Duration(f.ttl)
	c, err := ca.Issue(r)
	if err != nil {
		return fmt.Errorf("pki %s: %w", cmd.Name(), err)
	}
	dir := f.out
	if dir == "" {
		dir = filepath.Join(f.dir, f.cluster, below)
	}
	if err := c.Save(dir, f.force); err != nil {
		return fmt.Errorf("pki %s: %w", cmd.Name(), err)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s valid until %s\n", c.ID(), day(c.NotAfter()))
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole // a relative one in a configuration is relative to that file, and not to here
	}
	fmt.Fprintf(out, "in its configuration: identity: {dir: %s}\n", dir)
	return nil
}

// hint repeats --dir in a suggested command where it is needed.
func (f *pkiFlags) hint() string {
	if f.dir == "pki" {
		return ""
	}
	return " -d " + f.dir
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("%s takes one argument, %s, got %d: see '%s --help'", cmd.Name(), what, len(args), cmd.CommandPath())}
		}
		return nil
	}
}
