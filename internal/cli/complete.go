package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/internal/config"
)

// completeFlags gives the shell the values of every flag that has known ones.
// (Cobra's errors here say that a flag does not exist; these do.)
func completeFlags(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		completeFlags(c)
	}
	words := func(name string, choices ...string) {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		choices := f.Annotations[config.FlagChoices]
		switch {
		case choices != nil:
			words(f.Name, choices...)
		case f.Name == "config":
			_ = cmd.MarkFlagFilename(f.Name, "yaml", "yml")
		case f.Name == "output":
			words(f.Name, string(outputTable), string(outputJSON))
		case f.Name == "role":
			words(f.Name, string(config.GatewayRole), string(config.SidecarRole), string(config.CARole), string(config.WebhookRole))
		case f.Name == "admin":
			words(f.Name, "127.0.0.1:15000\ta gateway", "127.0.0.1:15020\ta sidecar", "127.0.0.1:15014\ta CA", "127.0.0.1:15017\ta webhook")
		case f.Name == "cluster" && cmd.Parent() != nil && cmd.Parent().Name() == "pki":
			_ = cmd.RegisterFlagCompletionFunc(f.Name, completeClusters)
		case f.Name == "dir" || f.Name == "authority" || f.Name == "out" || f.Name == "state" || f.Name == "resources" || f.Name == "identity-dir":
			_ = cmd.MarkFlagDirname(f.Name)
		}
	})
}

// completeClusters offers the clusters that have an authority in --dir.
func completeClusters(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, err := cmd.Flags().GetString("dir")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	authorities, _ := filepath.Glob(filepath.Join(dir, "*", "ca.pem")) // its only error is the pattern's
	var clusters []string
	for _, ca := range authorities {
		clusters = append(clusters, filepath.Base(filepath.Dir(ca)))
	}
	return clusters, cobra.ShellCompDirectiveNoFileComp
}
