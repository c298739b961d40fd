package cli

import (
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/webhook"
)

// Webhook is `isthmus webhook`.
func Webhook() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "webhook -c FILE",
		Short: "Give the pods of a Kubernetes cluster their sidecars",
		Long: `Answers the API server about every new pod of a namespace with the label
isthmus.io/inject: enabled, and of others with that label of their own, until SIGTERM
or SIGINT: with the sidecar that the configuration and the pod's annotations say. The
Helm chart runs two of it; it needs no more than this:

  sidecar:
    cluster: west
    image: registry.example/isthmus:v1
    gateways: [isthmus-gateway-0.isthmus-gateway.isthmus-system.svc]
    ca: [isthmus-ca.isthmus-system.svc]
    roots: /etc/isthmus/roots/roots.pem  # what pods trust at first

It makes its certificate by itself, keeps the authority of it in a Secret, and writes
the caBundle of the MutatingWebhookConfiguration; cert-manager has nothing to do.

SIGHUP has it read its configuration again, as 'isthmus reload' does: sidecar, drain and
log.level change at once, for the pods that are made from then on; the other keys wait
for a restart. Other roots in the file are used within seconds.`,
		Example: `  isthmus check -c webhook.yaml
  isthmus webhook -c webhook.yaml
  isthmus status --admin 127.0.0.1:15017`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadWebhook(file, cmd.Flags())
			if err != nil {
				return err
			}
			log, level := newLogger(cfg.Log, cmd.ErrOrStderr())
			p, err := webhook.New(cfg, webhook.Options{
				Log: log, Level: level, Serving: notifyServing,
				Configuration: func() (*config.Webhook, error) { return config.LoadWebhook(file, cmd.Flags()) },
			})
			if err != nil {
				return err
			}
			defer onSignals(func(os.Signal) { p.Reload(cmd.Context()) }, syscall.SIGHUP)()
			return runUntilSignal(cmd.Context(), "webhook", p, p.Drain, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	config.WebhookFlags(cmd.Flags())
	return cmd
}
