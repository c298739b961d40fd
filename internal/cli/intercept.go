package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/sidecar"
)

// Intercept is `isthmus intercept`.
func Intercept() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "intercept",
		Short: "Prepare a host for sidecars beside programs that do not know",
		Long: `With "interception: {mode: ebpf}" in its configuration, a sidecar captures what
the program beside it sends to mesh addresses, and its DNS questions; the
program needs no configuration at all. A sidecar that runs as root does
everything itself. One that runs as a service user needs root once:

  isthmus intercept attach -c sidecar.yaml --user isthmus

What is attached stays over restarts of the sidecar, and decides what happens
while it is down (interception.onFailure), until it is cleaned up.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(interceptAttach(), interceptPod(), interceptClean())
	return cmd
}

func interceptAttach() *cobra.Command {
	var file, owner string
	cmd := &cobra.Command{
		Use:   "attach -c FILE",
		Short: "Put interception in place for a sidecar (root)",
		Long: `Makes the program's cgroup, attaches the hooks to it and pins them, so that the
sidecar itself needs no privilege. Doing it again brings what is attached to the
configuration and to this version, without touching established connections.

Instead of all of root's it needs these capabilities, as user 0:

  CAP_BPF CAP_NET_ADMIN CAP_PERFMON      to load the hooks and attach them
  CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE  to give the pins to --user, and open them
  CAP_SYS_ADMIN                          only to mount a bpffs on /run/isthmus/bpf

configs/systemd of the source has units that give it no more.`,
		Example: `  isthmus intercept attach -c /etc/isthmus/sidecar.yaml --user isthmus`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadSidecar(file, cmd.Flags())
			if err != nil {
				return err
			}
			user, err := osuser.Lookup(owner)
			if err != nil {
				return usageError{fmt.Errorf("--user: %w", err)}
			}
			unix.Umask(0o022) // what is made is for that user to enter, whatever root's umask is
			i, err := sidecar.Attach(cfg, int(user.UID), int(user.GID), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "interception %s captures the programs in cgroup %s for user %s\n",
				cfg.Interception.Name, cfg.Interception.Cgroup, owner)
			return i.Close()
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the sidecar's configuration file")
	cmd.Flags().StringVar(&owner, "user", "root", "user that the sidecar runs as")
	config.SidecarFlags(cmd.Flags())
	return cmd
}

func interceptPod() *cobra.Command {
	var nodes, excluded []string
	cmd := &cobra.Command{
		Use:   "pod",
		Short: "Redirect this pod's traffic to its sidecar, by nftables (CAP_NET_ADMIN)",
		Long: fmt.Sprintf(`For an init container, where 'isthmus node' does not run on the nodes. It writes one
nftables table into the network namespace that it runs in, and ends: what the pod's programs
send to mesh addresses, and their DNS questions, go to the sidecar, and so does who
calls the pod's ports. Doing it again replaces the table.

The sidecar must run as user %d, with "interception: {mode: pod}". Nothing from outside passes
but to excluded ports: injected pods have their kubelet ask the sidecar. Where it asks the
programs, --node-addresses has the node pass, and with it whoever comes from there, such as
callers of a NodePort. While no sidecar runs, what is redirected is refused.`, config.PodUID),
		Example: `  isthmus intercept pod --node-addresses 192.0.2.7,2001:db8::7 --exclude-inbound-ports 9090`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			traffic := sidecar.PodTraffic()
			for _, s := range nodes {
				a, err := netip.ParseAddr(s)
				if err != nil {
					return usageError{fmt.Errorf("--node-addresses: %w", err)}
				}
				traffic.Nodes = append(traffic.Nodes, a)
			}
			for _, s := range excluded {
				port, err := strconv.ParseUint(s, 10, 16)
				if err != nil || port == 0 {
					return usageError{fmt.Errorf("--exclude-inbound-ports: %q is no port", s)}
				}
				traffic.Excluded = append(traffic.Excluded, uint16(port))
			}
			if err := interception.RedirectPod(traffic); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the pod's traffic goes to its sidecar")
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&nodes, "node-addresses", nil, "addresses of this node, whose connections to the pod pass")
	cmd.Flags().StringSliceVar(&excluded, "exclude-inbound-ports", nil, "ports of the pod whose callers pass")
	return cmd
}

func interceptClean() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "clean NAME... | --all",
		Short: "Remove what attach put in place (root)",
		Long: `Removes the hooks and pins of each NAME, a table that a killed sidecar left, and the
program's cgroup when nothing is in it. Established connections go on. What a running
sidecar uses is left alone: stop it first.`,
		Example: `  isthmus intercept clean orders-1
  isthmus intercept clean --all`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if all == (len(names) > 0) {
				return usageError{fmt.Errorf("name what to clean, or write --all")}
			}
			if all {
				var err error
				if names, err = interception.Attached(""); err != nil {
					return err
				}
				if len(names) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing to remove")
				}
			}
			var faults []error
			for _, name := range names {
				removed, err := sidecar.Detach(name)
				switch {
				case err != nil:
					faults = append(faults, fmt.Errorf("interception %s: %w", name, err))
				case removed:
					fmt.Fprintf(cmd.OutOrStdout(), "interception %s is removed\n", name)
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "interception %s: nothing to remove\n", name)
				}
			}
			return errors.Join(faults...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "everything of this host")
	return cmd
}
