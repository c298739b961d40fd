package cli

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Reload is `isthmus reload`.
func Reload() *cobra.Command {
	var address string
	var out output
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a gateway, a sidecar or a CA read its configuration again",
		Long: `Asks a process at its admin port to read its configuration file again, as SIGHUP
does, and shows the verdict: the keys whose new values are in force, and those that
wait for a restart. A file with a fault changes nothing.

Exits with 1 when the process cannot be asked or what the file says is not in force.`,
		Example: `  isthmus check -c sidecar.yaml && isthmus reload --admin 127.0.0.1:15020
  isthmus reload                                a gateway`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return usageError{fmt.Errorf("--admin %s: write host:port", address)}
			}
			verdict, err := status.AskReload(cmd.Context(), address)
			if err != nil {
				return fmt.Errorf("ask %s: %w; does the process run, and is this its admin address (--admin)?", address, err)
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), verdict)
			} else {
				t := newTable(cmd.OutOrStdout())
				t.line(verdict.String())
				err = t.flush()
			}
			if err == nil && !verdict.OK() {
				err = silentError{errors.New(verdict.String())}
			}
			return err
		},
	}
	adminFlag(cmd, &address, "admin address of a gateway (port 15000), sidecar (15020) or CA (15014)")
	out.flag(cmd)
	return cmd
}
