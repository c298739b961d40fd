package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/rotation"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

func pkiRevoke(f *pkiFlags) *cobra.Command {
	var admin, cluster string
	var lift bool
	cmd := &cobra.Command{
		Use:   "revoke IDENTITY | CLUSTER | FINGERPRINT | FILE …",
		Short: "Take an identity, a cluster or a key out of the mesh",
		Long: `Take something out of the mesh: it is accepted by nobody within seconds, and its
open connections, tunnels, registrations and catalogs end. What may be named:

  spiffe://mesh.example/cluster/west/gateway/west-1   an identity, whatever its key
  west/west-1                                         the same, of a gateway
  shop/orders --cluster west                          the same, of a workload
  west                                                a cluster, with everything in it
  sha256:…  or a file cert.pem                        a key, and what it signed if it is a CA's

The list is part of the mesh's bundle, which the root signs: this must be called where
the root's key is. With --admin the bundle is given to that gateway, which hands it to all
others and they to their sidecars. Else carry bundle.json to any gateway and call
'isthmus pki push' there.

Revoking a cluster revokes the key of its intermediate as well, when that is in the
directory. To let the cluster in again, make another intermediate
('isthmus pki cluster west --force') and its leaves, then --lift the cluster's entry: the
old key stays revoked. Who was revoked by name is in again when that is lifted.

Who is revoked is told so, as the last thing that it hears, and says it in its log and
'isthmus status'. That it is in again it hears from a gateway that reaches it; where none
does (it was forgotten, or all of its gateways were stopped meanwhile), give it the bundle at its
own admin port: isthmus pki push --admin ADDRESS OF ITS OWN.`,
		Example: `  isthmus pki revoke west --admin 127.0.0.1:15000
  isthmus pki revoke pki/west/gateways/west-1/cert.pem
  isthmus pki revoke --lift west`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("who? name an identity, a cluster, a fingerprint, or a certificate's file: see 'isthmus pki revoke --help'")}
			}
			d, err := rotation.Open(f.dir)
			if err != nil {
				return fmt.Errorf("pki revoke: %w", err)
			}
			var entries []string
			for _, arg := range args {
				what, err := whatToRevoke(d, arg, cluster, lift)
				if err != nil {
					return usageError{err}
				}
				entries = append(entries, what...)
			}
			out := cmd.OutOrStdout()
			err = d.Revise(func(b *identity.Bundle) error { return revise(out, b, entries, lift) })
			if err == nil {
				err = give(cmd.Context(), out, admin, f.dir, d.Bundle())
			}
			if err != nil {
				return fmt.Errorf("pki revoke: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "", "admin address of any gateway, such as 127.0.0.1:15000")
	cmd.Flags().StringVar(&cluster, "cluster", "", "cluster of a workload NAMESPACE/SERVICE-ACCOUNT")
	cmd.Flags().BoolVar(&lift, "lift", false, "take the entry off the list")
	return cmd
}

// revise puts entries on the list, or takes them off it.
func revise(out io.Writer, b *identity.Bundle, entries []string, lift bool) error {
	for _, what := range entries {
		i := slices.IndexFunc(b.Revoked, func(r identity.Revocation) bool { return r.What == what })
		switch {
		case lift && i < 0:
			return fmt.Errorf("%s is not on the list", what)
		case lift:
			b.Revoked = slices.Delete(b.Revoked, i, i+1)
			fmt.Fprintln(out, "no longer revoked: "+what)
		case i >= 0:
			fmt.Fprintln(out, "was revoked before: "+what)
		default:
			b.Revoked = append(b.Revoked, identity.Revocation{What: what, At: b.Made})
			fmt.Fprintln(out, "revoked: "+what)
		}
	}
	return nil
}

// whatToRevoke returns the entries of the list that an argument means, the one that it
// names first.
func whatToRevoke(d *rotation.Directory, arg, cluster string, lift bool) ([]string, error) {
	base := "spiffe://" + d.TrustDomain() + "/cluster/"
	namespace, account, two := strings.Cut(arg, "/")
	switch {
	case strings.HasPrefix(arg, "spiffe://"):
		return []string{arg}, nil
	case cluster != "" && two:
		return []string{base + cluster + "/ns/" + namespace + "/sa/" + account}, nil
	}
	if fingerprint, err := identity.ParseFingerprint(arg); err == nil {
		return []string{fingerprint.String()}, nil
	}
	if c, err := identity.ReadCertificate(arg); err == nil {
		return []string{identity.FingerprintOf(c).String()}, nil
	} else if !errors.Is(err, os.ErrNotExist) && two {
		return nil, err
	}
	// Of a name that is short, whether it means what was meant is known by the directory.
	if id, err := mesh.ParseGatewayID(arg); err == nil {
		entry := base + string(id.Cluster) + "/gateway/" + string(id.Name)
		if _, here := d.Cluster(id.Cluster); !here && !lift {
			return nil, fmt.Errorf("%s: there is no cluster %s here: for a workload add --cluster, for a gateway of a cluster whose directory is elsewhere write %s", arg, id.Cluster, entry)
		}
		return []string{entry}, nil
	}
	if err := mesh.CheckLabel(arg); err != nil {
		return nil, fmt.Errorf("%q is no SPIFFE ID, cluster, CLUSTER/GATEWAY, fingerprint or certificate's file: see 'isthmus pki revoke --help'", arg)
	}
	ca, here := d.Cluster(mesh.ClusterName(arg))
	switch {
	case lift: // its key stays revoked
		return []string{base + arg}, nil
	case !here:
		return nil, fmt.Errorf("%s: there is no cluster %s here: if its directory is elsewhere write %s, and revoke the key of its ca.pem, too", arg, arg, base+arg)
	}
	return []string{base + arg, identity.FingerprintOf(ca).String()}, nil
}

// give hands a bundle to a gateway, or says how to.
func give(ctx context.Context, out io.Writer, admin, dir string, b *identity.Bundle) error {
	if admin == "" {
		fmt.Fprintf(out, "next: carry %s to any gateway, and call there: isthmus pki push bundle.json\n", filepath.Join(dir, "bundle.json"))
		return nil
	}
	v, err := status.GiveBundle(ctx, admin, b.Bytes())
	if err != nil {
		return fmt.Errorf("give bundle %d to %s: %w; it is in %s", b.Number, admin, err, filepath.Join(dir, "bundle.json"))
	}
	if v.Error != "" {
		return fmt.Errorf("give bundle %d to %s: %s", b.Number, admin, printable(v.Error))
	}
	fmt.Fprintf(out, "bundle %d is in force at %s, which hands it on\n", b.Number, admin)
	return nil
}

func pkiPush(f *pkiFlags) *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:   "push [FILE]",
		Short: "Give a bundle to a gateway, which hands it to everybody",
		Long: `Give a bundle to a gateway, which hands it to all other gateways, and they to their
sidecars. It is bundle.json in the directory (--dir) unless FILE is named. Anybody may do
so: a bundle counts because a root has signed it. A file bundle.json in a process's
identity directory does the same.`,
		Example: `  isthmus pki push
  isthmus pki push bundle.json --admin 127.0.0.1:15000`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := f.dir
			if len(args) == 1 {
				dir = filepath.Dir(args[0])
				if filepath.Base(args[0]) != "bundle.json" {
					return usageError{fmt.Errorf("%s: the file is called bundle.json", args[0])}
				}
			}
			b, err := identity.OpenBundle(dir)
			if err == nil && b == nil {
				err = fmt.Errorf("there is no bundle.json in %s: 'isthmus pki revoke' and 'rotate' make one", dir)
			}
			if err == nil {
				err = give(cmd.Context(), cmd.OutOrStdout(), admin, dir, b)
			}
			if err != nil {
				return fmt.Errorf("pki push: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "127.0.0.1:15000", "admin address of the gateway")
	return cmd
}

func pkiFingerprint() *cobra.Command {
	return &cobra.Command{
		Use:   "fingerprint FILE",
		Short: "Print the fingerprint of a certificate's key",
		Long: `Print the fingerprint of the first certificate in a PEM file: the SHA-256 of its public
key (SubjectPublicKeyInfo), which every certificate of that key shares. It is what
'revoke' takes, and what trustDomains of a configuration pins a root by.`,
		Example: `  isthmus pki fingerprint pki/root.pem`,
		Args:    oneArg("a PEM file, such as pki/root.pem"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := identity.ReadCertificate(args[0])
			if err != nil {
				return fmt.Errorf("pki fingerprint: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), identity.FingerprintOf(c))
			return nil
		},
	}
}
