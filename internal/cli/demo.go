package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/demo"
)

// Demo is `isthmus demo`.
func Demo() *cobra.Command {
	var dir string
	var keep bool
	var out output
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run three clusters on this machine and break them",
		Long: `Starts three clusters (east, west, north) as real processes on loopback, two
gateways each, with shop/orders running twice in each behind sidecars, and a
caller in east; each cluster has a CA whose certificates live for a minute. It sends
steady traffic while it kills an instance, the whole service in east, a gateway, and
freezes a whole cluster; then it brings everything back, and waits until every
certificate was renewed. The closing table says what the caller noticed.

Needs no privilege. Takes about a minute.`,
		Example: `  isthmus demo
  isthmus demo --keep       # afterwards leave it running to look around
  isthmus demo -o json      # only the result`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				d, err := os.MkdirTemp("", "isthmus-demo-")
				if err != nil {
					return err
				}
				dir = d
			} else if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			progress := cmd.OutOrStdout()
			if out.json() {
				progress = io.Discard
			}
			report, err := demo.Run(cmd.Context(), demo.Options{Dir: dir, Progress: progress, Keep: keep})
			if err != nil {
				return err
			}
			switch {
			case out.json():
				err = report.WriteJSON(cmd.OutOrStdout())
			case !keep:
				err = report.WriteTable(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if !report.OK {
				return silentError{errors.New("the demo is not ok")}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory for configs, certificates, state and logs (default: a new temporary one)")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	out.flag(cmd)
	cmd.AddCommand(demoServe())
	return cmd
}

// demoServe is the program that the demo's sidecars start.
func demoServe() *cobra.Command {
	var listen, cluster, instance string
	cmd := &cobra.Command{
		Use:    "serve",
		Short:  "The HTTP server behind the demo's sidecars",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Serve(cmd.Context(), listen, cluster, instance)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "host:port to listen on")
	cmd.Flags().StringVar(&cluster, "cluster", "east", "cluster to answer with")
	cmd.Flags().StringVar(&instance, "instance", "orders-1", "instance to answer with")
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q: see '%s --help'", cmd.CommandPath(), args[0], cmd.CommandPath())}
	}
	return nil
}
