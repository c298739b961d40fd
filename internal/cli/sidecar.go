package cli

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/sidecar"
)

// Sidecar is `isthmus sidecar`.
func Sidecar() *cobra.Command {
	var file, as string
	cmd := &cobra.Command{
		Use:   "sidecar -c FILE [-- PROGRAM ARGS...]",
		Short: "Run a sidecar, and the program beside it",
		Long: `Runs a sidecar until SIGTERM or SIGINT. With a program behind "--" it also
starts that and ends with it, with the program's exit code. The program is told of
SIGTERM once its callers have been served, and has the mesh until it has ended; a
program that SIGTERM then ends, without a code of its own, is exit code 0.
With --user it runs as that user, and can neither read the sidecar's key nor lift its
interception. SIGUSR1, SIGUSR2, SIGWINCH and SIGQUIT are passed on to it. SIGHUP reloads the
configuration, and is passed on as well: 'isthmus reload' does not tell the program.
At once take effect upstreams, drain, log.level, and of service advertise, weight,
export and health; what else has changed is named, and waits for a restart.

  gateways: [10.0.0.5, 10.0.0.6]
  identity: {dir: /etc/isthmus/pki}
  service: {name: shop/orders, port: 80, target: 127.0.0.1:8080, protocol: http, export: true}
  upstreams:
    - {listen: 127.0.0.1:9001, service: shop/cart, port: 80}

"service" is what runs beside the sidecar and may be absent; with "export" other
clusters may call it. "upstreams" are
listeners whose callers reach a service, wherever it runs. A program that knows
nothing of the mesh needs none of them, as root or after 'isthmus intercept attach':

  interception: {mode: ebpf}   # also explicit, nftables, auto

has what it sends to mesh names arrive here, and who calls the program's own port.`,
		Example: `  isthmus check -c sidecar.yaml
  isthmus sidecar -c sidecar.yaml -- ./orders --port 8080
  isthmus sidecar -c sidecar.yaml --interception-mode ebpf -- curl http://orders.shop.mesh/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return noArgs(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			load := func() (*config.Sidecar, error) { return config.LoadSidecar(file, cmd.Flags()) }
			cfg, err := load()
			if err != nil {
				return err
			}
			var user *osuser.User
			if as != "" {
				if len(args) == 0 {
					return usageError{errors.New("--user is for a program: write it behind \"--\"")}
				}
				if user, err = osuser.Lookup(as); err != nil {
					return usageError{fmt.Errorf("--user: %w", err)}
				}
			}
			log, level := newLogger(cfg.Log, cmd.ErrOrStderr())
			id, err := openIdentity(cmd.Context(), sidecar.Process(cfg), cfg.Listen.Admin, cfg.Listen.Metrics, log)
			if id == nil {
				return err
			}
			s, err := sidecar.New(cfg, sidecar.Options{Log: log, Level: level, Identity: id, Program: args, User: user, Configuration: load, Serving: notifyServing})
			if err != nil {
				return err
			}
			defer onSignals(func(sig os.Signal) {
				if sig == syscall.SIGHUP {
					s.Reload(cmd.Context()) // it logs the verdict
				}
				s.Signal(sig)
			}, sidecarSignals(len(args) > 0)...)()
			err = runUntilSignal(cmd.Context(), "sidecar", s, s.Drain, log)
			if p, ok := errors.AsType[*sidecar.ProgramError](err); ok {
				return exitError{p.Code}
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&as, "user", "", "user that the program runs as, who then cannot read the sidecar's key; the sidecar must be root")
	config.SidecarFlags(cmd.Flags())
	return cmd
}
