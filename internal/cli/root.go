package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/internal/version"
	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitGood   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in how a command was called rather than in what it did.
type usageError struct{ error }

// silentError ends a command with a failure that it has already shown.
type silentError struct{ error }

// exitError ends the process with a code of its own: that of the program beside
// a sidecar.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// Main runs the command line and returns the exit code: 0 good, 1 failed,
// 2 usage. SIGINT and SIGTERM end the command's context; a second one kills
// the process as usual.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitGood
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return exit.code
	}
	if _, silent := errors.AsType[silentError](err); !silent {
		fmt.Fprintf(stderr, "isthmus: %v\n", err)
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus",
		Short: "A service mesh across clusters",
		Long: `Isthmus joins clusters: gateways gossip what each cluster offers and carry
traffic to each other in QUIC tunnels; a sidecar beside each program speaks
mutual TLS end to end and fails over when an instance, a gateway or a whole
cluster dies.

Start here:
  isthmus demo                    three clusters on this machine, and their failures
  isthmus pki init                make the mesh's root certificate
  isthmus ca -c ca.yaml           issue a cluster's certificates
  isthmus gateway -c gateway.yaml run a cluster's gateway
  isthmus sidecar -c sidecar.yaml -- program args
                                  run a program with its sidecar`,
		Version:       version.String() + ", " + version.Go(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q: see 'isthmus --help'", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: see '%s --help'", err, cmd.CommandPath())}
	})
	root.SetVersionTemplate("isthmus {{.Version}}\n")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(Demo(), Gateway(), Sidecar(), CA(), Node(), Webhook(), PKI(), Check(), Status(), Reload(), Forget(), Authz(), Intercept(), Inject())
	completeFlags(root)
	return root
}
