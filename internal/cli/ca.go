package cli

import (
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/config"
)

// CA is `isthmus ca`.
func CA() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "ca -c FILE",
		Short: "Issue a cluster's certificates",
		Long: `Runs a certificate authority of one cluster until SIGTERM or SIGINT: the only
process that holds the key of the cluster's intermediate, which 'isthmus pki
cluster' has made. Gateways and sidecars get their first certificate from it with a
token ('isthmus pki token') and renew it by themselves; so do ztunnel and Istio's
agents, whose CreateCertificate it speaks. It needs no more than this:

  name: ca-1                  # this CA's; default: the host name
  authority: /etc/isthmus/ca  # ca.pem, ca-key.pem and roots.pem of the cluster
  gateways: [10.0.0.5]        # of this cluster, from which it hears who was revoked

In Kubernetes it takes the tokens of service accounts as well, which the API server is
asked about, and renews no certificate of a pod that is gone; it needs "create" on
tokenreviews (authentication.k8s.io) and "get" on pods there:

  kubernetes: {gateways: isthmus-system/isthmus-gateway}  # whose pods are the gateways

Two may run for a cluster, each with a state directory of its own, and with an
intermediate of its own or a copy of the same: clients are given both addresses.

SIGHUP has it read its configuration again, as 'isthmus reload' does: ttl, drain and
log.level change at once, the other keys wait for a restart. Another intermediate of
the cluster in the directory is used within seconds.`,
		Example: `  isthmus check -c ca.yaml
  isthmus ca -c ca.yaml
  isthmus status --admin 127.0.0.1:15014`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadCA(file, cmd.Flags())
			if err != nil {
				return err
			}
			log, level := newLogger(cfg.Log, cmd.ErrOrStderr())
			p, err := ca.New(cfg, ca.Options{
				Log: log, Level: level, Serving: notifyServing,
				Configuration: func() (*config.CA, error) { return config.LoadCA(file, cmd.Flags()) },
			})
			if err != nil {
				return err
			}
			defer onSignals(func(os.Signal) { p.Reload(cmd.Context()) }, syscall.SIGHUP)()
			return runUntilSignal(cmd.Context(), "ca", p, p.Drain, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	config.CAFlags(cmd.Flags())
	return cmd
}
