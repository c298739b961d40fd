package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// pkiToken is `isthmus pki token`.
func pkiToken() *cobra.Command {
	var file, workload, account, gateway, out string
	ttl := lifetime(identity.DefaultTokenTTL)
	cmd := &cobra.Command{
		Use:   "token -c CA-FILE --workload NAMESPACE/SERVICE | --gateway NAME",
		Short: "Make a token for the first certificate of a gateway or workload",
		Long: `Make a token with which one process gets its first certificate from 'isthmus
ca'; from then on it renews by itself. Run it where the CA's configuration and the
key of its intermediate are: the CA need not run, and learns of the token when it
is used.

A token is good for one identity and one process: the CA binds it to the first key
that it is shown with. It ends after --ttl. Every instance of a service needs one of
its own. Only the CA whose configuration this is takes it; make one there for
another. It pins the mesh's root, so that who has it needs no other file.

Whoever has the token can use it: hand it over as you would a password, in a file
(-o, readable by its owner only) rather than on a command line.`,
		Example: `  isthmus pki token -c ca.yaml --workload shop/orders -o orders.token
  isthmus pki token -c ca.yaml --gateway west-1 --ttl 5m -o west-1.token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("which CA? write -c ca.yaml, its configuration")}
			}
			id, err := tokenFor(workload, account, gateway)
			if err != nil {
				return usageError{err}
			}
			if d := time.Duration(ttl); d < time.Second || d > identity.MaxTokenTTL {
				return usageError{fmt.Errorf("--ttl %s is out of range: write 1s to 24h", d)}
			}
			cfg, err := config.LoadCA(file, nil)
			if err != nil {
				return err
			}
			authority, err := identity.OpenAuthority(cfg.Authority)
			if err != nil {
				return fmt.Errorf("pki token: %w", err)
			}
			text, token, err := authority.NewToken(id, cfg.Name, time.Duration(ttl))
			if err != nil {
				return fmt.Errorf("pki token: %w", err)
			}
			if out == "" {
				fmt.Fprintln(cmd.OutOrStdout(), text)
			} else {
				if err := wholefile.Write(out, []byte(text+"\n"), 0o600); err != nil {
					return fmt.Errorf("pki token: %w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "token of %s in %s, for CA %s, until %s\n", token.ID, out, token.CA, token.Expires.UTC().Format(time.RFC3339))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration of the CA that takes the token")
	cmd.Flags().StringVar(&workload, "workload", "", "the service that the process is an instance of, such as shop/orders")
	cmd.Flags().StringVar(&account, "service-account", "", "service account of the workload (default: the service's name)")
	cmd.Flags().StringVar(&gateway, "gateway", "", "name of the gateway, such as west-1")
	cmd.Flags().Var(&ttl, "ttl", "until when it may be used, at most 24h")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	return cmd
}

// tokenFor returns whom a token is for.
func tokenFor(workload, account, gateway string) (identity.ID, error) {
	switch {
	case (workload == "") == (gateway == ""):
		return identity.ID{}, errors.New("for whom? write --workload shop/orders or --gateway west-1")
	case gateway != "":
		if account != "" {
			return identity.ID{}, errors.New("--service-account: a gateway has none")
		}
		return identity.ID{Gateway: mesh.GatewayName(gateway)}, mesh.CheckLabel(gateway)
	}
	svc, err := mesh.ParseServiceName(workload)
	if err != nil {
		return identity.ID{}, err
	}
	if account == "" {
		account = svc.Name
	}
	return identity.ID{Namespace: svc.Namespace, ServiceAccount: account}, nil
}
