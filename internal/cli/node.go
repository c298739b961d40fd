package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/node"
	"github.com/isthmus-mesh/isthmus/sidecar"
)

// Node is `isthmus node`.
func Node() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "node -c FILE",
		Short: "Capture the pods of a Kubernetes node",
		Long: `Runs the agent of a Kubernetes node until SIGTERM or SIGINT. It attaches eBPF hooks to
the cgroup and the network namespace of each pod of this node that has a sidecar, before the
pod's programs start: they need no privilege, and no init container. The hooks stay
while the agent is down; pods that start meanwhile wait for it.

It is a DaemonSet of the chart. It needs the host's PID namespace and, as user 0:

  CAP_BPF CAP_NET_ADMIN CAP_PERFMON   to load the hooks and attach them
  CAP_SYS_PTRACE                      to reach pods, and /sys/fs/bpf of the host

A pod that is annotated isthmus.io/interception: init is left alone.`,
		Example: `  isthmus node --node worker-1 --kubeconfig /etc/kubernetes/kubelet.conf`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadNode(file, cmd.Flags())
			if err != nil {
				return err
			}
			log, _ := newLogger(cfg.Log, cmd.ErrOrStderr())
			n, err := node.New(cfg, node.Options{Log: log, Traffic: sidecar.PodTraffic()})
			if err != nil {
				return err
			}
			return runUntilSignal(cmd.Context(), "node", n, func() time.Duration { return time.Second }, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	config.NodeFlags(cmd.Flags())
	return cmd
}
