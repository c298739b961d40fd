package cli

import (
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/config"
)

// Gateway is `isthmus gateway`.
func Gateway() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "gateway -c FILE",
		Short: "Run a cluster's gateway",
		Long: `Runs a gateway until SIGTERM or SIGINT; then it leaves the mesh, lets running
paths end and exits. SIGHUP has it read its configuration again, as 'isthmus reload'
does: join, resources, limits, drain and log.level change at once, the other keys
wait for a restart, and a bad file changes nothing. A gateway that joins a mesh needs no more than this:

  cluster: west                     # this cluster's name
  name: west-1                      # this gateway's; default: the host name
  advertise: gw1.west.example:7443  # what other clusters dial
  join: [gw1.east.example:7443]     # any other gateway; none for the first
  identity: {dir: /etc/isthmus/pki}
  resources: /etc/isthmus/resources # watched

Every key can be overridden by a flag or by an environment variable
(ISTHMUS_LISTEN_MESH for listen.mesh).`,
		Example: `  isthmus check -c gateway.yaml
  isthmus gateway -c gateway.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadGateway(file, cmd.Flags())
			if err != nil {
				return err
			}
			quietQUIC()
			log, level := newLogger(cfg.Log, cmd.ErrOrStderr())
			id, err := openIdentity(cmd.Context(), gateway.Process(cfg), cfg.Listen.Admin, cfg.Listen.Metrics, log)
			if id == nil {
				return err
			}
			g, err := gateway.New(cfg, gateway.Options{
				Log: log, Level: level, Identity: id, Serving: notifyServing,
				Configuration: func() (*config.Gateway, error) { return config.LoadGateway(file, cmd.Flags()) },
			})
			if err != nil {
				return err
			}
			defer onSignals(func(os.Signal) { g.Reload(cmd.Context()) }, syscall.SIGHUP)()
			return runUntilSignal(cmd.Context(), "gateway", g, g.Drain, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	config.GatewayFlags(cmd.Flags())
	return cmd
}

// quietQUIC keeps quic-go from writing to the standard logger about a small UDP
// buffer: internal/tunnel says it in our log, with what to do. The environment is
// the only switch that quic-go has for it, and only the command that is this
// process may change that; not a sidecar's, whose program would inherit it.
func quietQUIC() {
	const key = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"
	if _, set := os.LookupEnv(key); !set {
		_ = os.Setenv(key, "true") // the name is valid
	}
}
