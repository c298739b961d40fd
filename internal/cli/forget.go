package cli

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Forget is `isthmus forget`.
func Forget() *cobra.Command {
	var admin []string
	var out output
	cmd := &cobra.Command{
		Use:   "forget CLUSTER | CLUSTER/GATEWAY",
		Short: "Forget a cluster or a gateway that is gone for good",
		Long: `A gateway that is out of reach is remembered for 72 hours: its address, which is
dialled, and what it offered, which is shown as stale. This drops all of it at once,
with its metrics, on the gateway that is asked and on every gateway of its cluster.

Other clusters do not take it from there, or one of them could have a third forgotten that is
out of reach for a moment: name a gateway of each in --admin. Those that were not
asked are printed. Only a gateway of one's own cluster is forgotten everywhere at once.

What is alive cannot be forgotten: stop it first. What comes back later is new. An
address of it that is in a gateway's configuration (join) is dialled further on.

Exits with 1 when a cluster that was asked has not forgotten it, or not on all of
its gateways.`,
		Example: `  isthmus forget west
  isthmus forget west/west-1 --admin 10.1.0.1:15000,10.2.0.1:15000`,
		Args: oneArg("a cluster, such as west, or a gateway, such as west/west-1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, gateway, one := strings.Cut(args[0], "/")
			if err := mesh.CheckLabel(cluster); err != nil {
				return usageError{fmt.Errorf("cluster: %w", err)}
			}
			if _, err := mesh.ParseGatewayID(args[0]); one && err != nil {
				return usageError{fmt.Errorf("gateway %s: %w", gateway, err)}
			}
			for _, address := range admin {
				if _, _, err := net.SplitHostPort(address); err != nil {
					return usageError{fmt.Errorf("--admin %s: write host:port, several with commas", address)}
				}
			}
			var verdicts []*status.Forget
			var faults []error
			for _, address := range admin {
				v, err := status.AskForget(cmd.Context(), address, args[0])
				if err != nil {
					faults = append(faults, fmt.Errorf("ask %s: %w; does the gateway run, and is this its admin address (--admin)?", address, err))
					continue
				}
				verdicts = append(verdicts, v)
				if v.Error != "" {
					faults = append(faults, errors.New(v.Error))
				}
			}
			if out.json() {
				if err := writeJSON(cmd.OutOrStdout(), verdicts); err != nil {
					return err
				}
			} else if err := writeForgotten(newTable(cmd.OutOrStdout()), args[0], verdicts); err != nil {
				return err
			}
			if len(verdicts) == len(admin) && len(faults) > 0 {
				return silentError{errors.Join(faults...)} // the verdicts say it
			}
			return errors.Join(faults...)
		},
	}
	cmd.Flags().StringSliceVar(&admin, "admin", []string{"127.0.0.1:15000"}, "admin addresses: of any gateway of each cluster")
	out.flag(cmd)
	return cmd
}

// writeForgotten writes what each gateway that was asked says, and who was not asked.
func writeForgotten(t *table, name string, verdicts []*status.Forget) error {
	var asked, elsewhere []mesh.ClusterName
	for _, v := range verdicts {
		asked = append(asked, v.Self.Cluster)
		for _, id := range v.Forgotten {
			t.line(fmt.Sprintf("forgotten in cluster %s: %s", v.Self.Cluster, id))
		}
		if v.Error != "" {
			t.line(fmt.Sprintf("%s: %s", v.Self, v.Error))
		}
	}
	for _, v := range verdicts {
		for _, c := range v.Elsewhere {
			if !slices.Contains(asked, c) && !slices.Contains(elsewhere, c) {
				elsewhere = append(elsewhere, c)
			}
		}
	}
	for _, c := range elsewhere {
		t.line(fmt.Sprintf("not asked: cluster %s, which takes this from its own gateways only: isthmus forget %s --admin ADDRESS of one of them", c, name))
	}
	return t.flush()
}
