package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/inject"
	"github.com/isthmus-mesh/isthmus/internal/inject/manifest"
)

// Inject is `isthmus inject`.
func Inject() *cobra.Command {
	var file string
	var manifests []string
	cmd := &cobra.Command{
		Use:   "inject -c FILE -f MANIFESTS",
		Short: "Give the pods of YAML files their sidecars",
		Long: `Writes Kubernetes objects to standard output as they would be once the webhook has
given their pods sidecars: Pods, and the templates of Deployments, StatefulSets,
DaemonSets, ReplicaSets, ReplicationControllers, Jobs, CronJobs and PodTemplates, also
in Lists. Everything else leaves as it came. What became of each goes to standard
error. What has a sidecar is left alone: to change one, inject the original again.

The configuration is the webhook's. In a cluster that has one:

  kubectl -n isthmus-system get configmap isthmus-webhook -o 'jsonpath={.data.webhook\.yaml}' > webhook.yaml

The label isthmus.io/inject: disabled of a pod counts here, too; that of its namespace
does not, since nobody here knows it.`,
		Example: `  isthmus inject -c webhook.yaml -f shop.yaml | kubectl apply -f -
  kubectl -n shop get deployment orders -o yaml | isthmus inject -c webhook.yaml -f - --sidecar-roots roots.pem`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(manifests) == 0 {
				return usageError{errors.New("which manifests? write isthmus inject -c FILE -f MANIFESTS, or -f - for standard input")}
			}
			cfg, err := config.LoadWebhook(file, cmd.Flags())
			if err != nil {
				return err
			}
			injector, err := inject.Open(&cfg.Sidecar)
			if err != nil {
				return err
			}
			return injectAll(cmd, injector, manifests)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file of the webhook")
	cmd.Flags().StringSliceVarP(&manifests, "filename", "f", nil, "file with objects; - is standard input")
	config.WebhookFlags(cmd.Flags())
	return cmd
}

// injectAll writes nothing when a pod of any file is refused.
func injectAll(cmd *cobra.Command, injector *inject.Injector, files []string) error {
	var faults []error
	var out []byte
	for _, name := range files {
		data, err := readManifest(cmd.InOrStdin(), name)
		if err == nil {
			var text []byte
			var verdicts []manifest.Verdict
			text, verdicts, err = manifest.Inject(name, data, injector)
			for _, v := range verdicts {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", v.Object, v)
			}
			out = append(separated(out, text), text...)
		}
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	_, err := cmd.OutOrStdout().Write(out)
	return err
}

// separated returns out, ready for another stream of documents.
func separated(out, next []byte) []byte {
	if len(out) == 0 || len(next) == 0 {
		return out
	}
	if out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	if len(next) >= 3 && string(next[:3]) == "---" {
		return out
	}
	return append(out, "---\n"...)
}

// readManifest reads a bounded file.
func readManifest(stdin io.Reader, name string) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	data, err := io.ReadAll(io.LimitReader(stdin, manifest.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}
