package cli

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Forget is `isthmus forget`.
func Forget() *cobra.Command {
	var address string
	var out output
	cmd := &cobra.Command{
		Use:   "forget CLUSTER | CLUSTER/GATEWAY",
		Short: "Have all gateways forget a cluster or a gateway that is gone for good",
		Long: `A gateway that is out of reach is remembered for 72 hours: its address, which is
dialled, and what it offered, which is shown as stale. This drops all of it at once,
with its metrics, on every gateway of every cluster that can be reached.

What is alive cannot be forgotten: stop it first. What comes back later is new. An
address of it that is in a gateway's configuration (join) is dialled further on.

Exits with 1 when it was not forgotten, or not by all.`,
		Example: `  isthmus forget west
  isthmus forget west/west-1 --admin 127.0.0.1:15000`,
		Args: oneArg("a cluster, such as west, or a gateway, such as west/west-1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, gateway, one := strings.Cut(args[0], "/")
			if err := mesh.CheckLabel(cluster); err != nil {
				return usageError{fmt.Errorf("cluster: %w", err)}
			}
			if _, err := mesh.ParseGatewayID(args[0]); one && err != nil {
				return usageError{fmt.Errorf("gateway %s: %w", gateway, err)}
			}
			if _, _, err := net.SplitHostPort(address); err != nil {
				return usageError{fmt.Errorf("--admin %s: write host:port", address)}
			}
			verdict, err := status.AskForget(cmd.Context(), address, args[0])
			if err != nil {
				return fmt.Errorf("ask %s: %w; does the gateway run, and is this its admin address (--admin)?", address, err)
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), verdict)
			} else {
				t := newTable(cmd.OutOrStdout())
				for _, id := range verdict.Forgotten {
					t.line("forgotten: " + id.String())
				}
				if verdict.Error != "" {
					t.line(verdict.Error)
				}
				err = t.flush()
			}
			if err == nil && verdict.Error != "" {
				err = silentError{errors.New(verdict.Error)}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&address, "admin", "127.0.0.1:15000", "admin address of any gateway")
	out.flag(cmd)
	return cmd
}
